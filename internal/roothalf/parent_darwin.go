package roothalf

import "golang.org/x/sys/unix"

// process returns the name of a process and the ID of its real user (sysctl(3)).
func process(pid int) (name string, uid int, err error) {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return "", 0, err
	}
	return unix.ByteSliceToString(info.Proc.P_comm[:]), int(info.Eproc.Pcred.P_ruid), nil
}
