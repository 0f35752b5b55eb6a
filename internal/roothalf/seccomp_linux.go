//go:build amd64 || arm64

package roothalf

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// refusedCalls are system calls that root's half never makes: they debug other processes,
// change the kernel, mounts, namespaces, the clock or the machine's settings, or reach
// large parts of the kernel. refusedCallsOfArch has those that only this architecture has.
var refusedCalls = []uint32{
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_REBOOT,
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_OPEN_TREE_ATTR,
	unix.SYS_FSOPEN, unix.SYS_FSMOUNT, unix.SYS_FSCONFIG, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
	unix.SYS_SETNS, unix.SYS_UNSHARE,
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
	unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_SYSLOG,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_FANOTIFY_INIT, unix.SYS_PERSONALITY,
}

// execCalls run another program.
var execCalls = []uint32{unix.SYS_EXECVE, unix.SYS_EXECVEAT}

// Arguments of system calls that are permitted with few values only.
var (
	// permittedFamilies are those of the ports and of the connection to the daemon, and
	// netlink within permittedNetlink.
	permittedFamilies = []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6}
	// permittedNetlink are the protocols that list interfaces and sockets.
	permittedNetlink = []uint32{unix.NETLINK_ROUTE, unix.NETLINK_SOCK_DIAG}
	// permittedBPF change the elements of maps. No program can be loaded.
	permittedBPF = []uint32{
		unix.BPF_MAP_LOOKUP_ELEM, unix.BPF_MAP_UPDATE_ELEM, unix.BPF_MAP_DELETE_ELEM, unix.BPF_MAP_GET_NEXT_KEY,
		unix.BPF_MAP_LOOKUP_BATCH, unix.BPF_MAP_UPDATE_BATCH, unix.BPF_MAP_DELETE_BATCH,
	}
	// refusedIoctls type into a terminal.
	refusedIoctls = []uint32{unix.TIOCSTI, unix.TIOCLINUX}
)

const (
	// namespaceFlags are the flags of clone(2) that create a namespace.
	namespaceFlags = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP
	// x32Bit marks calls of amd64's x32 interface, which have other numbers.
	x32Bit = 0x40000000
	// Offsets in struct seccomp_data (linux/seccomp.h), and between its arguments.
	// Of those, the first four bytes count, which are the lower half here.
	dataNumber, dataArch, dataArguments, argumentSize = 0, 4, 16, 8
)

// filterSystemCalls makes the kernel refuse refusedCalls, and those in more, with EPERM:
// for good, on all threads of this process, and in its children (seccomp(2)). Calls of
// other architectures are refused too.
func filterSystemCalls(more ...uint32) error {
	runtime.LockOSThread() // no_new_privs is set on this thread; the filter sets it on the others
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	instructions := filterInstructions(more...)
	program := unix.SockFprog{Len: uint16(len(instructions)), Filter: &instructions[0]}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program))) //nolint:gosec // the kernel reads the structure during the call
	runtime.KeepAlive(instructions)
	if errno != 0 {
		return fmt.Errorf("filter system calls: %w", os.NewSyscallError("seccomp", errno))
	}
	if thread != 0 {
		return fmt.Errorf("filter system calls: thread %d has a filter of its own", thread)
	}
	return nil
}

// filterInstructions returns the filter, a classic BPF program on struct seccomp_data.
func filterInstructions(more ...uint32) []unix.SockFilter {
	filter := slices.Concat(
		load(dataArch), unlessEqual(auditArch, refuse(unix.EPERM)),
		load(dataNumber), ifBits(x32Bit, refuse(unix.EPERM)),
	)
	for _, number := range slices.Concat(refusedCalls, refusedCallsOfArch, more) {
		filter = append(filter, ifEqual(number, refuse(unix.EPERM))...)
	}
	// clone3's flags are in memory, where a filter can't see them. Callers that get
	// ENOSYS use clone.
	filter = append(filter, ifEqual(unix.SYS_CLONE3, refuse(unix.ENOSYS))...)
	filter = append(filter, ifEqual(unix.SYS_CLONE, slices.Concat(argument(0), ifBits(namespaceFlags, refuse(unix.EPERM)), permit()))...)
	filter = append(filter, ifEqual(unix.SYS_BPF, only(0, permittedBPF))...)
	filter = append(filter, ifEqual(unix.SYS_SOCKET, slices.Concat(
		argument(0), ifEqual(unix.AF_NETLINK, only(2, permittedNetlink)), only(0, permittedFamilies)))...)
	ioctl := argument(1)
	for _, request := range refusedIoctls {
		ioctl = append(ioctl, ifEqual(request, refuse(unix.EPERM))...)
	}
	filter = append(filter, ifEqual(unix.SYS_IOCTL, append(ioctl, permit()...))...)
	return append(filter, permit()...)
}

// only permits a call if an argument has one of the given values, and refuses it otherwise.
func only(number int, values []uint32) []unix.SockFilter {
	filter := argument(number)
	for _, value := range values {
		filter = append(filter, ifEqual(value, permit())...)
	}
	return append(filter, refuse(unix.EPERM)...)
}

// argument loads an argument.
func argument(number int) []unix.SockFilter { return load(uint32(dataArguments + argumentSize*number)) }

// load loads four bytes of struct seccomp_data.
func load(offset uint32) []unix.SockFilter {
	return []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}}
}

// ifEqual runs then if the loaded value is the given one. then must end with permit or
// refuse if it loads another value.
func ifEqual(value uint32, then []unix.SockFilter) []unix.SockFilter {
	return append([]unix.SockFilter{{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: uint8(len(then)), K: value}}, then...)
}

// unlessEqual runs then if the loaded value isn't the given one.
func unlessEqual(value uint32, then []unix.SockFilter) []unix.SockFilter {
	return append([]unix.SockFilter{{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: uint8(len(then)), K: value}}, then...)
}

// ifBits runs then if the loaded value has one of the given bits.
func ifBits(bits uint32, then []unix.SockFilter) []unix.SockFilter {
	return append([]unix.SockFilter{{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, Jf: uint8(len(then)), K: bits}}, then...)
}

func permit() []unix.SockFilter { return end(unix.SECCOMP_RET_ALLOW) }

func refuse(errno unix.Errno) []unix.SockFilter { return end(unix.SECCOMP_RET_ERRNO | uint32(errno)) }

// end ends the filter with a result.
func end(result uint32) []unix.SockFilter {
	return []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: result}}
}
