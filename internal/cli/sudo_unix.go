//go:build !windows

package cli

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

	"github.com/kubeshore/kubeshore/internal/peer"
)

// callTime is how long a keeper may take to call once sudo has started it.
const callTime = 10 * time.Second

// summon has sudo start a keeper, and returns the connection to it. The two meet
// at a socket in a folder that is the user's alone, and each looks who the other
// one is.
func summon(ctx context.Context, p privileges) (*net.UnixConn, error) {
	sudo, err := exec.LookPath("sudo")
	if err != nil {
		return nil, errors.New("kubeshore needs root for the hosts file and for ports, and there is no sudo: run it as root, or without root by --rootless")
	}
	folder, err := os.MkdirTemp("", "kubeshore-") // for the user alone
	if err != nil {
		return nil, fmt.Errorf("folder to meet the keeper in: %w", err)
	}
	defer os.RemoveAll(folder)
	socket := filepath.Join(folder, "keeper")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("socket to meet the keeper at: %w", err)
	}
	defer listener.Close()
	if err := runSudo(ctx, sudo, p, socket); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	// The keeper has called by now, as sudo ends after that.
	if err := listener.SetDeadline(time.Now().Add(callTime)); err != nil {
		return nil, err
	}
	conn, err := listener.AcceptUnix()
	if err != nil {
		return nil, fmt.Errorf("the keeper doesn't call: %w", err)
	}
	uid, err := peer.UID(conn)
	if err == nil && uid != 0 {
		err = fmt.Errorf("it is user %d who calls, not root", uid)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("keeper: %w", err), conn.Close())
	}
	return conn, nil
}

// isRefusal tells whether what ended so is the keeper, and not sudo.
func isRefusal(err error) bool {
	exit := new(exec.ExitError)
	return errors.As(err, &exit) && exit.ExitCode() == exitKeeper
}

// runSudo runs what calls from the root side. First without a password, which
// may be known still; then, if there is a terminal, sudo asks for it there.
func runSudo(ctx context.Context, sudo string, p privileges, socket string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	command := append([]string{"--", self}, p.arguments("keeper", "--socket", socket)...)
	var said bytes.Buffer
	quiet := exec.CommandContext(ctx, sudo, append([]string{"-n"}, command...)...)
	quiet.Stderr = &said
	err = quiet.Run()
	if err == nil || ctx.Err() != nil {
		return err
	}
	if isRefusal(err) {
		return errors.New(strings.TrimPrefix(strings.TrimSpace(said.String()), "kubeshore: "))
	}
	terminal, noTerminal := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if noTerminal != nil {
		why := strings.TrimSpace(said.String())
		return fmt.Errorf("kubeshore needs root for the hosts file and for ports, and sudo can't ask for a password without a terminal: "+
			"run sudo kubeshore up, or --rootless (%s)", strings.ReplaceAll(why, "\n", "; "))
	}
	defer terminal.Close()
	asking := exec.CommandContext(ctx, sudo, append([]string{"-p", "kubeshore needs root for the hosts file and for ports. Password of %p for sudo: "}, command...)...)
	asking.Cancel = func() error { return asking.Process.Signal(syscall.SIGTERM) } // it puts the terminal right
	asking.Stdin, asking.Stdout, asking.Stderr = terminal, terminal, terminal
	if err := asking.Run(); isRefusal(err) {
		return errors.New("the keeper that sudo has started doesn't work; why it has said itself")
	} else if err != nil {
		return fmt.Errorf("sudo has not started kubeshore's keeper (%w); run sudo kubeshore up, or --rootless", err)
	}
	return nil
}
