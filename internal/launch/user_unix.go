//go:build !windows

package launch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kubeshore/kubeshore/internal/failure"
)

// targetUser is the user that root starts the daemon as.
type targetUser struct {
	*user.User
	credential syscall.Credential
	shell      string // empty if unknown
	isolated   bool   // root chose the user, who gets nothing of root's: no environment, no terminal
}

// targetUser returns the user to start the daemon as: the one of --user, or the
// one who invoked sudo. It is nil if the process isn't root's, or root works for
// itself.
func (o Options) targetUser() (*targetUser, error) {
	id := os.Getenv("SUDO_UID")
	switch {
	case os.Geteuid() != 0 && o.User != "":
		return nil, failure.Usage(errors.New("--user needs root"))
	case os.Geteuid() != 0:
		return nil, nil //nolint:nilnil // no user is not an error
	case o.User != "":
		u, err := newTargetUser(user.Lookup(o.User))
		if err == nil {
			u.isolated = true
		}
		return u, err
	case id == "" || id == "0":
		return nil, nil //nolint:nilnil // no user is not an error
	}
	return newTargetUser(user.LookupId(id))
}

func newTargetUser(u *user.User, err error) (*targetUser, error) {
	if err != nil {
		return nil, fmt.Errorf("look up the user to run as: %w", err)
	}
	target := &targetUser{User: u, shell: shellOf(u.Username)}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("groups of user %s: %w", u.Username, err)
	}
	for i, text := range append([]string{u.Uid, u.Gid}, ids...) {
		id, err := strconv.ParseUint(text, 10, 32)
		switch {
		case err != nil:
			return nil, fmt.Errorf("user %s: %w", u.Username, err)
		case i == 0:
			target.credential.Uid = uint32(id)
		case i == 1:
			target.credential.Gid = uint32(id)
		default:
			target.credential.Groups = append(target.credential.Groups, uint32(id))
		}
	}
	if target.credential.Uid == 0 {
		return nil, errors.New("--user must not be root")
	}
	return target, nil
}

// shellOf returns a user's login shell from passwd(5); empty if unknown.
func shellOf(name string) string {
	file, err := os.Open("/etc/passwd")
	if err != nil {
		return ""
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if fields := strings.Split(lines.Text(), ":"); len(fields) == 7 && fields[0] == name {
			return fields[6]
		}
	}
	return ""
}

// outputGrace is how long to wait for the rest of a process's output after it
// exited: its children may still hold its stdout and stderr.
const outputGrace = time.Second

// command returns this program with its arguments, to be run as the user.
func (u *targetUser) command(args []string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// The daemon ends itself: it is not killed when something here ends.
	command := exec.CommandContext(context.Background(), self, args...) //nolint:gosec // this program, as the user
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	if u.isolated { // a process with root's terminal could read from it, and type into it (TIOCSTI)
		command.Stdin, command.Stdout, command.Stderr = nil, infallibleFile{os.Stdout}, infallibleFile{os.Stderr}
		command.WaitDelay = outputGrace
	}
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &u.credential, Setsid: u.isolated}
	command.Env = u.environ(os.Environ())
	return command, nil
}

// infallibleFile drops output when its reader is gone, instead of failing.
type infallibleFile struct{ file *os.File }

func (f infallibleFile) Write(text []byte) (int, error) {
	_, _ = f.file.Write(text)
	return len(text), nil
}

// environ returns the environment of the user's processes: the variables that sudo
// passed on or, if root chose the user, only machineVariables and LC_*; with the
// user's own HOME, USER, LOGNAME and SHELL.
func (u *targetUser) environ(given []string) []string {
	own := []string{"HOME=" + u.HomeDir, "USER=" + u.Username, "LOGNAME=" + u.Username}
	if u.shell != "" {
		own = append(own, "SHELL="+u.shell)
	}
	kept := slices.DeleteFunc(slices.Clone(given), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		if u.isolated {
			return !strings.HasPrefix(name, "LC_") && !slices.Contains(machineVariables, name)
		}
		return strings.HasPrefix(name, "SUDO_") || strings.HasPrefix(name, "KUBESHORE_") ||
			slices.Contains([]string{"HOME", "USER", "LOGNAME", "SHELL", "MAIL"}, name)
	})
	return append(kept, own...)
}

// machineVariables are the variables, besides LC_*, that belong to the machine or
// the terminal and not to a user.
var machineVariables = []string{
	"PATH", "TERM", "NO_COLOR", "LANG", "TZ", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
	"http_proxy", "https_proxy", "all_proxy", "no_proxy",
}
