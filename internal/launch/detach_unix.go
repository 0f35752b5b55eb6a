//go:build !windows

package launch

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/kubeshore/kubeshore/internal/config"
	"github.com/kubeshore/kubeshore/internal/daemon"
	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/machine"
	"github.com/kubeshore/kubeshore/internal/printable"
	"github.com/kubeshore/kubeshore/internal/roothalf"
	"github.com/kubeshore/kubeshore/internal/stopsignal"
	"github.com/kubeshore/kubeshore/internal/term"
	"github.com/kubeshore/kubeshore/internal/userdirs"
	"github.com/kubeshore/kubeshore/pkg/control"
)

// detachedEnv tells a daemon that it runs in the background. Its starter shows its
// stderr up to endOfOutput.
const detachedEnv = "KUBESHORE_DETACHED"

// The values of detachedEnv: how the output is formatted.
const (
	formatPlain  = "plain"  // to be shown as it is
	formatReplay = "replay" // for a log view: JSON log entries and status lines
)

// endOfOutput is the last output of a daemon to its starter, which may then exit.
const endOfOutput = "\x00\n"

// Detach starts a daemon in the background, and shows its output until its
// services are ready or the wait times out. Passwords and logins are asked for
// before, while there is a terminal. view is the log view of out; it may be nil.
func Detach(ctx context.Context, o Options, d daemon.Options, out *term.AsyncWriter, view *term.LogView, log *logrus.Logger) error {
	conn, err := inheritedKeeper() // first, because child processes would inherit it
	if err != nil {
		return err
	}
	closeOnExec()
	if conn == nil {
		target, err := roothalf.FindTargetUser(o.User)
		switch {
		case err != nil:
			return err
		case target != nil && o.Rootless:
			return errRootlessUnderSudo
		case target != nil:
			return runAsUser(ctx, target, o, d, true, log)
		}
	}
	if err := daemon.CheckNotRunning(ctx); err != nil {
		return err
	}
	signals := stopsignal.Notify(log) // never stopped: signals after the daemon is detached are ignored
	keeper, h, err := prepare(ctx, o, d, conn, signals, log)
	if err != nil {
		return err
	}
	if keeper != nil {
		defer keeper.Close()
	}
	if err := startInBackground(keeper, h, signals, out, view); err != nil {
		return err
	}
	return reportDetached(ctx, out)
}

// reportDetached shows that a daemon runs in the background.
func reportDetached(ctx context.Context, out *term.AsyncWriter) error {
	dirs, err := userdirs.SocketSearchDirs()
	if err != nil {
		return err
	}
	status, err := control.NewClient(dirs...).Status(ctx)
	if err != nil {
		return fmt.Errorf("status of the daemon in the background: %w", err)
	}
	ready, all := daemon.CountReady(status.Services)
	text := fmt.Sprintf("running in the background (pid %d): %d of %d services ready. "+
		"Status: kubeshore ps · log: kubeshore logs -f · stop: kubeshore down", status.PID, ready, all)
	fmt.Fprintln(out, term.Wrap(text, out.Width(), 0))
	return nil
}

// prepare takes the steps that need the terminal: it has the user confirm the
// configuration, has sudo ask for the password, and lets credential plugins ask. It
// returns the connection to the keeper (see keeperConnFile) and the handover to the
// daemon. A signal cancels it. No plugin runs before sudo is done: a process that one
// leaves behind could read the password.
func prepare(ctx context.Context, o Options, d daemon.Options, conn *net.UnixConn, signals stopsignal.Signals, log logrus.FieldLogger) (*os.File, handover, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := signals.Each(func(os.Signal) { cancel() })
	plugins := daemon.NewPlugins(d.Terminal, log)
	defer plugins.Close()
	watcher := config.NewWatcher(d.Config, plugins, log)
	err := daemon.OpenConfig(ctx, watcher)
	var keeper *os.File
	if err == nil {
		d.Machine.Names = watcher.KeeperNames()
		keeper, err = keeperConnFile(ctx, o, d.Machine, conn, log)
	}
	h := handover{Kubeconfig: d.Config.Kubeconfig}
	if err == nil {
		err = h.logIn(ctx, watcher, plugins, log)
	}
	stopped := stop()
	if (stopped || err != nil) && keeper != nil {
		_ = keeper.Close() // which ends the keeper
	}
	if stopped {
		return nil, handover{}, failure.Failed // by the user, before anything was started
	}
	return keeper, h, err
}

// keeperConnFile returns the connection to the keeper of a new daemon as a file: conn,
// or one to a new keeper. It is nil if the daemon needs no keeper.
func keeperConnFile(ctx context.Context, o Options, m machine.Options, conn *net.UnixConn, log logrus.FieldLogger) (*os.File, error) {
	if conn == nil && (o.Rootless || os.Geteuid() == 0) {
		return nil, nil //nolint:nilnil // no keeper is not an error
	}
	if conn == nil {
		var err error
		if conn, err = startKeeperViaSudo(ctx, m, log); err != nil {
			return nil, err
		}
	}
	defer conn.Close() // the file is a duplicate
	return conn.File()
}

// startInBackground starts this program again in a new session, and shows its output
// until it can be detached. It fails if the daemon exits before that.
func startInBackground(keeper *os.File, h handover, signals stopsignal.Signals, out *term.AsyncWriter, view *term.LogView) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	output, stderr, err := os.Pipe()
	if err != nil {
		return err
	}
	defer output.Close()
	command := exec.CommandContext(context.Background(), self, os.Args[1:]...) //nolint:gosec // this process's own command line
	command.Stderr = stderr
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	format := formatPlain
	if view != nil {
		format = formatReplay
	}
	command.Env = append(os.Environ(), detachedEnv+"="+format)
	if keeper != nil {
		addFile(command, roothalf.KeeperEnv, keeper)
	}
	send, err := h.attach(command)
	if err != nil {
		return err
	}
	err = command.Start()
	_ = stderr.Close() // so that its end is noticed
	send()
	if err != nil {
		return fmt.Errorf("start the daemon in the background: %w", err)
	}
	if keeper != nil {
		_ = keeper.Close()
	}
	exited := make(chan error, 1)
	go func() { // ends with this process if the daemon is detached
		exited <- command.Wait()
		_ = output.SetReadDeadline(time.Now().Add(roothalf.OutputGrace)) // a plugin may still hold the pipe
	}()
	stop := signals.ForwardTo(command.Process, syscall.SIGTERM)
	detached, err := showOutput(out, view, output)
	stopped := stop()
	switch {
	case err != nil: // the output can't be shown
		_ = output.Close() // so that the daemon doesn't wait for a reader
		return errors.Join(err, command.Process.Signal(syscall.SIGTERM), roothalf.ExitError(<-exited))
	case detached && !stopped:
		return nil
	}
	if err := roothalf.ExitError(<-exited); err != nil {
		return err
	}
	if detached {
		fmt.Fprintln(out, "stopped while detaching: cleaned up")
	}
	return failure.Failed // stopped by the user
}

// showOutput shows a daemon's output, in a log view if there is one, and reports
// whether the daemon can be detached; otherwise it has exited.
func showOutput(out *term.AsyncWriter, view *term.LogView, output io.Reader) (detached bool, err error) {
	if view != nil {
		defer view.SetStatus("")
	}
	for lines := bufio.NewReader(output); ; {
		line, err := lines.ReadBytes('\n')
		text, _, ended := bytes.Cut(line, []byte(endOfOutput[:1]))
		if len(text) > 0 {
			if text = append(bytes.TrimSuffix(text, []byte("\n")), '\n'); view != nil {
				view.Replay(text)
			} else {
				_, _ = out.Write(printable.Lines(text))
			}
		}
		switch outErr := out.Err(); {
		case ended:
			return true, nil
		case outErr != nil:
			return false, outErr
		case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded):
			return false, nil
		case err != nil:
			return false, err
		}
	}
}

// closeOnExec prevents child processes from inheriting this process's descriptors, so
// that a daemon in the background doesn't hold its caller's locks and pipes.
// Without /dev/fd it does nothing.
func closeOnExec() {
	dir, err := os.Open("/dev/fd")
	if err != nil {
		return
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		if fd, err := strconv.Atoi(name); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}
