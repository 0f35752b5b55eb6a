//go:build !windows

package roothalf

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/printable"
)

// TargetUser is the user that root starts the daemon as.
type TargetUser struct {
	*user.User
	// Isolated means that root chose the user, or that the terminal is that of a root
	// shell: the user gets nothing of root's, neither environment nor terminal.
	Isolated bool

	credential syscall.Credential
	shell      string // empty if unknown
}

// FindTargetUser returns the user to start the daemon as: the one with the given name
// (--user) or, if that is empty, the one who invoked sudo. It is nil if the process
// isn't root's, or root works for itself.
func FindTargetUser(name string) (*TargetUser, error) {
	id := os.Getenv("SUDO_UID")
	switch {
	case os.Geteuid() != 0 && name != "":
		return nil, failure.Usage(errors.New("--user needs root"))
	case os.Geteuid() != 0:
		return nil, nil //nolint:nilnil // no user is not an error
	case name != "":
		u, err := newTargetUser(user.Lookup(name))
		if err == nil {
			u.Isolated = true
		}
		return u, err
	case id == "" || id == "0":
		return nil, nil //nolint:nilnil // no user is not an error
	}
	u, err := newTargetUser(user.LookupId(id))
	if err == nil {
		u.Isolated = !isStartedBySudo(u.credential.Uid)
	}
	return u, err
}

// isStartedBySudo reports whether sudo itself started this process for a user, as
// opposed to a program that sudo started, such as the root shell of sudo -s: the
// terminal is then root's. Without a session or a terminal of its own to care for,
// sudo becomes this process, whose parent is then the user's. The parent alone proves
// nothing: a process that a root shell left behind gets the user's subreaper as its
// parent, or a sudo that is one (PR_SET_CHILD_SUBREAPER(2const)).
func isStartedBySudo(uid uint32) bool {
	name, parent, err := process(os.Getppid())
	return err == nil && (name == "sudo" && parent == 0 || parent == int(uid)) && endsWith(os.Getenv("SUDO_COMMAND"), os.Args)
}

// endsWith reports whether the command that sudo ran, SUDO_COMMAND in sudo(8), is the one
// with the given arguments, or a program such as env or nice that becomes it.
func endsWith(command string, args []string) bool {
	own := strings.Join(append([]string{filepath.Base(args[0])}, args[1:]...), " ")
	before, found := strings.CutSuffix(command, own)
	return found && (before == "" || strings.HasSuffix(before, "/") || strings.HasSuffix(before, " "))
}

func newTargetUser(u *user.User, err error) (*TargetUser, error) {
	if err != nil {
		return nil, fmt.Errorf("look up the user to run as: %w", err)
	}
	target := &TargetUser{User: u, shell: shellOf(u.Username)}
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

// OutputGrace is how long to wait for the rest of a process's output after it
// exited: its children may still hold its stdout and stderr.
const OutputGrace = time.Second

// command returns a program with its arguments, to be run as the user.
func (u *TargetUser) command(program string, args []string) *exec.Cmd {
	// The daemon ends itself: it is not killed when something here ends.
	command := exec.CommandContext(context.Background(), program, args...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	if u.Isolated { // a process with root's terminal could read from it, and type into it (TIOCSTI)
		command.Stdin, command.Stdout, command.Stderr = nil, &printable.Writer{Out: infallibleFile{os.Stdout}}, &printable.Writer{Out: infallibleFile{os.Stderr}}
		command.WaitDelay = OutputGrace
	}
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &u.credential, Setsid: u.Isolated}
	command.Env = u.environ(os.Environ())
	return command
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
func (u *TargetUser) environ(given []string) []string {
	own := []string{"HOME=" + u.HomeDir, "USER=" + u.Username, "LOGNAME=" + u.Username}
	if u.shell != "" {
		own = append(own, "SHELL="+u.shell)
	}
	kept := slices.DeleteFunc(slices.Clone(given), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		if u.Isolated {
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
