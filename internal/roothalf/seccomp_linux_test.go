//go:build amd64 || arm64

package roothalf

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// filteredEnv makes the test binary install the filter, and test it.
const filteredEnv = "KUBESHORE_TEST_FILTERED"

// The filter is for good, so a process of its own tests it.
func TestSystemCallFilter(t *testing.T) {
	if os.Getenv(filteredEnv) != "" {
		testFiltered(t)
		return
	}
	command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSystemCallFilter$", "-test.v")
	command.Env = append(os.Environ(), filteredEnv+"=1")
	if output, err := command.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, output)
	}
}

// testFiltered makes system calls on a thread that existed before the filter. Their
// arguments are invalid, so that none has an effect if it isn't refused.
func testFiltered(t *testing.T) {
	installed, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := <-installed; err != nil {
			t.Error(err)
			return
		}
		testRefusedCalls(t)
		testPermittedCalls(t)
	}()
	installed <- filterSystemCalls(execCalls...)
	<-ended
	if err := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^$").Run(); !errors.Is(err, unix.EPERM) {
		t.Errorf("run a program: got %v, want %v", err, unix.EPERM)
	}
}

const invalid = ^uintptr(0)

func testRefusedCalls(t *testing.T) {
	expect := func(want syscall.Errno, number uint32, args ...uintptr) {
		t.Helper()
		for len(args) < 6 {
			args = append(args, invalid)
		}
		if _, _, errno := syscall.RawSyscall6(uintptr(number), args[0], args[1], args[2], args[3], args[4], args[5]); errno != want {
			t.Errorf("system call %#x%x: got %v, want %v", number, args, errno, want)
		}
	}
	for _, number := range slices.Concat(refusedCalls, refusedCallsOfArch, execCalls) {
		expect(unix.EPERM, number)
	}
	expect(unix.EPERM, x32Bit|unix.SYS_GETPID)
	expect(unix.ENOSYS, unix.SYS_CLONE3)
	expect(unix.EPERM, unix.SYS_CLONE, unix.CLONE_NEWUSER|unix.CLONE_FS) // the kernel doesn't permit both
	for _, request := range refusedIoctls {
		expect(unix.EPERM, unix.SYS_IOCTL, invalid, uintptr(request))
	}
	for _, command := range []uintptr{unix.BPF_PROG_LOAD, unix.BPF_MAP_CREATE, unix.BPF_LINK_CREATE, unix.BPF_MAP_GET_FD_BY_ID, unix.BPF_OBJ_GET} {
		expect(unix.EPERM, unix.SYS_BPF, command)
	}
	for _, family := range []uintptr{unix.AF_PACKET, unix.AF_ALG, unix.AF_VSOCK, unix.AF_KEY, unix.AF_BLUETOOTH, unix.AF_XDP} {
		expect(unix.EPERM, unix.SYS_SOCKET, family, unix.SOCK_RAW, 0)
	}
	for _, protocol := range []uintptr{unix.NETLINK_NETFILTER, unix.NETLINK_AUDIT, unix.NETLINK_XFRM, unix.NETLINK_KOBJECT_UEVENT} {
		expect(unix.EPERM, unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, protocol)
	}
}

// testPermittedCalls makes calls that the keeper and its runtime need; its own work is
// tested by TestKeeperDropsPrivileges.
func testPermittedCalls(t *testing.T) {
	for _, command := range permittedBPF {
		if _, _, errno := syscall.RawSyscall(unix.SYS_BPF, uintptr(command), 0, 8); errno == 0 || errno == unix.EPERM && os.Geteuid() == 0 {
			t.Errorf("bpf command %d: got %v, want an error of the kernel", command, errno)
		}
	}
	for _, protocol := range permittedNetlink {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(protocol))
		if err = errors.Join(err, unix.Close(fd)); err != nil {
			t.Errorf("netlink socket %d: %v", protocol, err)
		}
	}
	for _, address := range [][2]string{{"tcp4", "127.0.0.1:0"}, {"unix", ""}} {
		listener, err := new(net.ListenConfig).Listen(t.Context(), address[0], address[1])
		if err != nil {
			t.Errorf("listen at %v: %v", address, err)
			continue
		}
		_ = listener.Close()
	}
	thread := make(chan struct{})
	go func() {
		runtime.LockOSThread() // and end it with the goroutine
		close(thread)
	}()
	<-thread
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err == nil {
		err = errors.Join(unix.PidfdSendSignal(pidfd, 0, nil, 0), unix.Close(pidfd))
	}
	if err != nil {
		t.Errorf("pidfd: %v", err)
	}
}

// The numbers of system calls are those of one architecture, so calls of others that the
// kernel also runs are refused.
func TestSystemCallFilterOfOtherArchitectures(t *testing.T) {
	raw := make([]bpf.RawInstruction, 0, 256)
	for _, i := range filterInstructions() {
		raw = append(raw, bpf.RawInstruction{Op: i.Code, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}
	instructions, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("the filter has invalid instructions")
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatal(err)
	}
	for arch, want := range map[uint32]uint32{
		auditArch: unix.SECCOMP_RET_ALLOW, unix.AUDIT_ARCH_I386: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM), unix.AUDIT_ARCH_ARM: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM),
	} {
		data := make([]byte, 64) // struct seccomp_data, with the byte order of the VM
		binary.BigEndian.PutUint32(data[dataNumber:], unix.SYS_GETPID)
		binary.BigEndian.PutUint32(data[dataArch:], arch)
		if got, err := vm.Run(data); err != nil || uint32(got) != want {
			t.Errorf("architecture %#x: got %#x, %v; want %#x", arch, got, err, want)
		}
	}
}
