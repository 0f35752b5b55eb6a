//go:build !windows

package cli

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
)

// caller is the user that a process of root's works for.
type caller struct {
	*user.User
	credential syscall.Credential
	shell      string // empty if it isn't known
	apart      bool   // it is root who named the user: nothing of root's is to be the user's
}

// caller returns who called sudo, or whom --user names; nil if root works for
// itself.
func (f upFlags) caller() (*caller, error) {
	id := os.Getenv("SUDO_UID")
	switch {
	case os.Geteuid() != 0 && f.user != "":
		return nil, usage(errors.New("--user is for root"))
	case os.Geteuid() != 0:
		return nil, nil //nolint:nilnil // nobody is the answer
	case f.user != "":
		c, err := lookUp(user.Lookup(f.user))
		if err == nil {
			c.apart = true
		}
		return c, err
	case id == "" || id == "0":
		return nil, nil //nolint:nilnil // nobody is the answer
	}
	return lookUp(user.LookupId(id))
}

func lookUp(u *user.User, err error) (*caller, error) {
	if err != nil {
		return nil, fmt.Errorf("the user that kubeshore is to run as: %w", err)
	}
	c := &caller{User: u, shell: shellOf(u.Username)}
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
			c.credential.Uid = uint32(id)
		case i == 1:
			c.credential.Gid = uint32(id)
		default:
			c.credential.Groups = append(c.credential.Groups, uint32(id))
		}
	}
	if c.credential.Uid == 0 {
		return nil, fmt.Errorf("user %s is root", u.Username)
	}
	return c, nil
}

// shellOf returns a user's shell as passwd(5) has it.
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

// command returns this program with its arguments, to be run as the user.
func (c *caller) command(args []string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// Its end is the daemon's own matter: it is not killed when something here ends.
	command := exec.CommandContext(context.Background(), self, args...) //nolint:gosec // what the user has called, as the user
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	if c.apart { // who has root's terminal can read what is typed there later, and type (TIOCSTI)
		command.Stdin, command.Stdout, command.Stderr = nil, patient{os.Stdout}, patient{os.Stderr}
		command.WaitDelay = copyTime
	}
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &c.credential, Setsid: c.apart}
	command.Env = c.environ(os.Environ())
	return command, nil
}

// copyTime is how long the rest of what a process has said may take to come once it has
// ended: what it has started may still have its stdout and stderr.
const copyTime = time.Second

// patient is a file that everything can be written to: that nobody reads it any more
// keeps nobody from saying more.
type patient struct{ file *os.File }

func (p patient) Write(text []byte) (int, error) {
	_, _ = p.file.Write(text)
	return len(text), nil
}

// environ returns what sudo let through, or, where root named the user, what is nothing of
// root's own, with the user's own in place of root's.
func (c *caller) environ(given []string) []string {
	own := []string{"HOME=" + c.HomeDir, "USER=" + c.Username, "LOGNAME=" + c.Username}
	if c.shell != "" {
		own = append(own, "SHELL="+c.shell)
	}
	kept := slices.DeleteFunc(slices.Clone(given), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		if c.apart {
			return !strings.HasPrefix(name, "LC_") && !slices.Contains(commonVariables, name)
		}
		return strings.HasPrefix(name, "SUDO_") || strings.HasPrefix(name, "KUBESHORE_") ||
			slices.Contains([]string{"HOME", "USER", "LOGNAME", "SHELL", "MAIL"}, name)
	})
	return append(kept, own...)
}

// commonVariables are the variables, beside LC_*, that are the machine's or the terminal's rather
// than a user's.
var commonVariables = []string{
	"PATH", "TERM", "NO_COLOR", "LANG", "TZ", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
	"http_proxy", "https_proxy", "all_proxy", "no_proxy",
}

// asKeeper has this process, once its daemon's environment is made, have that of a keeper.
func asKeeper() error {
	os.Clearenv()
	for _, variable := range rootEnv() {
		name, value, _ := strings.Cut(variable, "=")
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	return nil
}

// inBackground tells whether this process is the daemon in the background. Under sudo it
// isn't, whatever somebody has made sudo pass on.
func (f upFlags) inBackground() bool {
	if os.Getenv(detachedEnv) == "" {
		return false
	}
	caller, err := f.caller()
	return os.Geteuid() != 0 || err == nil && caller == nil
}
