package roothalf

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hostsCapabilities are what writing a hosts file needs that isn't root's own.
var hostsCapabilities = []int{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_LEASE}

// portCapabilities are what changing ports needs once they have been opened: ports below
// 1024, and the maps of sk_lookup.
var portCapabilities = []int{unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_ADMIN, unix.CAP_BPF}

const (
	// namingCapability is what finding out which process uses a port needs.
	namingCapability = unix.CAP_SYS_PTRACE
	// signalCapability is what forwarding signals to another user's daemon needs.
	signalCapability = unix.CAP_KILL
)

// dropPrivileges drops all capabilities of this process except those in keep, for good:
// neither the process nor its children can get them again by running a program
// (no_new_privs, and the bounding set). It does nothing in a program with cgo, i.e. in the
// main program, because Go can't change all threads there.
func dropPrivileges(keep ...int) error {
	if err := onAllThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1); errors.Is(err, unix.ENOTSUP) {
		return nil
	} else if err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var current [2]unix.CapUserData
	if err := unix.Capget(&header, &current[0]); err != nil {
		return fmt.Errorf("get capabilities: %w", err)
	}
	var kept [2]unix.CapUserData
	for _, capability := range keep {
		word, bit := capability/32, uint32(1)<<(capability%32)
		kept[word].Permitted |= bit & current[word].Permitted // a container may have fewer
		kept[word].Effective = kept[word].Permitted
	}
	for capability := 0; capability <= unix.CAP_LAST_CAP; capability++ {
		if kept[capability/32].Permitted&(1<<(capability%32)) != 0 {
			continue
		}
		err := onAllThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(capability))
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) { // unknown to this kernel, or not permitted in this container
			break
		}
		if err != nil {
			return fmt.Errorf("drop capability %d: %w", capability, err)
		}
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&kept[0])), 0) //nolint:gosec // the kernel reads both structures during the call
	if errno != 0 {
		return fmt.Errorf("set capabilities: %w", errno)
	}
	return nil
}

// onAllThreads makes a system call with two arguments on all threads of this process.
func onAllThreads(number, first, second uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall6(number, first, second, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
