//go:build !windows

package launch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/machine"
	"github.com/kubeshore/kubeshore/internal/peer"
	"github.com/kubeshore/kubeshore/internal/roothalf"
)

const (
	// keeperConnectTimeout is how long a keeper may take to connect once sudo has
	// started it.
	keeperConnectTimeout = 10 * time.Second

	needsRoot  = "root is required for the hosts file and for ports"
	rootHint   = "run sudo kubeshore up, or kubeshore up --rootless"
	rootPrompt = "kubeshore needs root for the hosts file and for ports.\n[sudo] password for %p: "
)

// startKeeperViaSudo has sudo start a keeper, and returns the connection to it.
// They meet at a socket in a directory that only the user can access, and each
// checks who the other one is.
func startKeeperViaSudo(ctx context.Context, o machine.Options, log logrus.FieldLogger) (*net.UnixConn, error) {
	sudo, err := exec.LookPath("sudo")
	if err != nil {
		return nil, failure.WithHint(errors.New(needsRoot+", and sudo is not installed"), "run it as root, or kubeshore up --rootless")
	}
	if err := keepConnection(); err != nil {
		return nil, fmt.Errorf("protect the keeper's connection: %w", err)
	}
	dir, err := os.MkdirTemp("", "kubeshore-") // mode 0700
	if err != nil {
		return nil, fmt.Errorf("directory for the keeper's socket: %w", err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "keeper")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("socket for the keeper: %w", err)
	}
	defer listener.Close()
	if err := runSudo(ctx, sudo, append([]string{"--", rootHalf(log)}, roothalf.ConnectArguments(o, socket)...)); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	// The keeper has connected by now, because sudo exits after that.
	if err := listener.SetDeadline(time.Now().Add(keeperConnectTimeout)); err != nil {
		return nil, err
	}
	conn, err := listener.AcceptUnix()
	if err != nil {
		return nil, fmt.Errorf("the keeper did not connect: %w", err)
	}
	uid, err := peer.UID(conn)
	if err == nil && uid != 0 {
		err = fmt.Errorf("connection from user %d, not from root", uid)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("keeper: %w", err), conn.Close())
	}
	return conn, nil
}

// isKeeperFailure reports whether the keeper failed, and not sudo.
func isKeeperFailure(err error) bool {
	exit := new(exec.ExitError)
	return errors.As(err, &exit) && exit.ExitCode() == roothalf.KeeperConnectFailed
}

// runSudo runs a command, keeper-connect, as root: first without a password, in case sudo
// needs none, then with sudo asking for it in the terminal, if there is one.
func runSudo(ctx context.Context, sudo string, command []string) error {
	var output bytes.Buffer
	quiet := exec.CommandContext(ctx, sudo, append([]string{"-n"}, command...)...)
	quiet.Stderr = &output
	err := quiet.Run()
	if err == nil || ctx.Err() != nil {
		return err
	}
	message := strings.ReplaceAll(strings.TrimSpace(output.String()), "\n", "; ")
	if isKeeperFailure(err) {
		return errors.New(message)
	}
	terminal, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return failure.WithHint(fmt.Errorf("%s, and sudo can't ask for a password without a terminal (%s)", needsRoot, message), rootHint)
	}
	defer terminal.Close()
	return askInTerminal(ctx, terminal, sudo, command)
}

// askInTerminal runs sudo, which asks for the password in the terminal. With -k sudo
// stores no ticket (sudo(8)): a ticket would let every program in this terminal use
// sudo without a password, including the credential plugins that run next.
func askInTerminal(ctx context.Context, terminal *os.File, sudo string, command []string) error {
	asking := exec.CommandContext(ctx, sudo, append([]string{"-k", "-p", rootPrompt}, command...)...)
	asking.Cancel = func() error { return asking.Process.Signal(syscall.SIGTERM) } // so that sudo restores the terminal
	asking.Stdin, asking.Stdout, asking.Stderr = terminal, terminal, terminal
	err := asking.Run()
	switch {
	case isKeeperFailure(err):
		return errors.New("the keeper started by sudo failed; see its output above")
	case err != nil:
		return failure.WithHint(fmt.Errorf("sudo failed (%w)", err), rootHint)
	}
	return nil
}
