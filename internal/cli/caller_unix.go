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
)

// caller is the user that a process of root's works for.
type caller struct {
	*user.User
	credential syscall.Credential
	shell      string // empty if it isn't known
	apart      bool   // root's terminal is not to be the user's: who has one can type in it (TIOCSTI)
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
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &c.credential, Setsid: c.apart}
	command.Env = c.environ(os.Environ())
	return command, nil
}

// environ returns what sudo let through, with the user's own in place of root's.
func (c *caller) environ(given []string) []string {
	own := []string{"HOME=" + c.HomeDir, "USER=" + c.Username, "LOGNAME=" + c.Username}
	if c.shell != "" {
		own = append(own, "SHELL="+c.shell)
	}
	kept := slices.DeleteFunc(slices.Clone(given), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return strings.HasPrefix(name, "SUDO_") || slices.Contains([]string{"HOME", "USER", "LOGNAME", "SHELL", "MAIL"}, name)
	})
	return append(kept, own...)
}
