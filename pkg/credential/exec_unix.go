//go:build !windows

package credential

import (
	"os/exec"
	"syscall"
)

// stopGently makes the end of command's context a SIGTERM. A plugin without a
// terminal gets a process group of its own, so that its children are stopped too;
// one that has the terminal must stay in its foreground group.
func stopGently(command *exec.Cmd, ownGroup bool) {
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: ownGroup}
	command.Cancel = func() error {
		if ownGroup {
			return syscall.Kill(-command.Process.Pid, syscall.SIGTERM)
		}
		return command.Process.Signal(syscall.SIGTERM)
	}
}
