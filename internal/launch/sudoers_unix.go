//go:build !windows

package launch

import (
	"errors"
	"fmt"
	"os"
	"os/user"

	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/machine"
	"github.com/kubeshore/kubeshore/internal/namepolicy"
	"github.com/kubeshore/kubeshore/internal/roothalf"
	"github.com/kubeshore/kubeshore/internal/rootonly"
)

// SudoersLine returns the line of sudoers(5) with which this process's user needs no
// password for kubeshore up, as long as it writes the given hosts file and no other public names than the given
// patterns. The line allows
// nothing else: who can replace the program that it names would be root.
func SudoersLine(hostsFile string, publicNames []string) (string, error) {
	if os.Geteuid() == 0 { // sudo may have dropped TMPDIR too, which is part of the line
		return "", failure.WithHint(errors.New("root needs no rule"), "run kubeshore sudoers without sudo, as the user who runs kubeshore up")
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	program, err := findRootHalf(self)
	if err == nil {
		err = rootonly.CheckFile(program)
	}
	if err != nil {
		return "", failure.WithHint(fmt.Errorf("no program for a sudoers rule: %w", err), installRemedy)
	}
	me, err := user.Current()
	if err != nil {
		return "", err
	}
	return roothalf.SudoersLine(me.Username, program, machine.Options{HostsFile: hostsFile, Owner: me.Uid, Names: namepolicy.Policy{Patterns: publicNames}}, os.TempDir())
}
