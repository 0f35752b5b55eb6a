//go:build !windows

package cli

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

	"github.com/kubeshore/kubeshore/pkg/control"
)

// detachedEnv tells a daemon that it is in the background: the one that has started it
// reads its stderr until there is an end of message.
const detachedEnv = "KUBESHORE_DETACHED"

// logInTime is how long a person may take to log in.
const logInTime = 2 * time.Minute

// What detachedEnv says: how what is said is to look.
const (
	lookPlain = "plain" // as it is to be shown
	lookView  = "view"  // entries of the log as JSON, and last lines, for a view to show
)

// endOfMessage is what a daemon writes last to who has started it, once that may go.
const endOfMessage = "\x00\n"

// detach starts a daemon in the background, asks for what must be asked for, and shows
// what the daemon says until it can be left alone.
func detach(ctx context.Context, f upFlags, shown *screen, log *logrus.Logger) error {
	conn, err := inherited() // before anything is started, as it would have it too
	if err != nil {
		return err
	}
	closeOnExec()
	p := f.privileges()
	if conn == nil {
		caller, err := f.caller()
		switch {
		case err != nil:
			return err
		case caller != nil && f.rootless:
			return errRootless
		case caller != nil:
			p.owner = caller.Uid
			return detachFor(caller, p, log)
		}
	}
	folders, err := controlFolders()
	if err != nil {
		return err
	}
	if err := already(ctx, folders); err != nil {
		return err
	}
	signals := notify(log) // to the end: what comes once the daemon is left alone is for nobody
	keeper, err := f.prepare(ctx, p, conn, signals, log)
	if err != nil {
		return err
	}
	if keeper != nil {
		defer keeper.Close()
	}
	if err := startInBackground(keeper, signals, shown, log); err != nil {
		return err
	}
	status, err := control.NewClient(folders...).Status(ctx)
	if err != nil {
		return fmt.Errorf("the background process doesn't answer: %w", err)
	}
	works, all := count(status.Services)
	text := fmt.Sprintf("kubeshore runs in the background (process %d): %d of %d services can answer. See kubeshore ps, logs, down.",
		status.PID, works, all)
	fmt.Fprintln(shown, wrap(text, shown.width(), 0))
	return nil
}

// prepare does what must be done while there is a terminal, and can be told to end: it has
// plugins ask what they may ask, and returns what keeperFor does.
func (f upFlags) prepare(ctx context.Context, p privileges, conn *net.UnixConn, signals signals, log logrus.FieldLogger) (*os.File, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	off := signals.each(func(os.Signal) { cancel() })
	err := logIn(ctx, f, log)
	var keeper *os.File
	if err == nil {
		keeper, err = f.keeperFor(ctx, p, conn)
	}
	if off() {
		if keeper != nil {
			_ = keeper.Close()
		}
		return nil, exitStatus(exitFault) // stopped, as was asked, before there was anything
	}
	return keeper, err
}

// detachFor is detach under sudo: it starts the keeper, and the rest of it as the user.
func detachFor(caller *caller, p privileges, log *logrus.Logger) error {
	signals := notify(log)
	defer signals.stop()
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	defer theirs.Close()
	file, err := ours.File()
	_ = ours.Close() // each end is one process's, so that its death is seen
	if err != nil {
		return err
	}
	err = startKeeper(file, p)
	_ = file.Close()
	if err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	command, err := caller.command(os.Args[1:])
	if err != nil {
		return err
	}
	command.ExtraFiles = []*os.File{theirs}
	command.Env = append(command.Env, keeperEnv+"=3")
	if err := command.Start(); err != nil {
		return fmt.Errorf("can't run as %s: %w", caller.Username, err)
	}
	_ = theirs.Close()
	off := signals.passTo(command.Process, nil)
	err = outcome(command.Wait())
	if off() && err != nil && !errors.As(err, new(exitStatus)) {
		return exitStatus(exitFault) // stopped, as was asked, by what it has heard too
	}
	return err
}

// keeperFor returns the connection to the keeper of a new daemon, as a file: the one that
// there is, or that to a new one; nil if it needs none.
func (f upFlags) keeperFor(ctx context.Context, p privileges, conn *net.UnixConn) (*os.File, error) {
	if conn == nil && (f.rootless || os.Geteuid() == 0) {
		return nil, nil //nolint:nilnil // it needs none
	}
	if conn == nil {
		var err error
		if conn, err = summon(ctx, p); err != nil {
			return nil, err
		}
	}
	defer conn.Close() // the file is another descriptor
	return conn.File()
}

// logIn has the clusters' credential plugins ask what they may ask, while there is a
// terminal. What else is wrong with a cluster the daemon says.
func logIn(ctx context.Context, f upFlags, log logrus.FieldLogger) error {
	wanted, err := newWanted(f.selection, f.kubeconfig, f.config, log)
	if err != nil {
		return err
	}
	for _, follow := range wanted.now.Load().follow {
		cluster, err := wanted.cluster(follow.Context)
		if err != nil {
			return err
		}
		if cluster.Config.ExecProvider == nil {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, logInTime)
		err = cluster.LogIn(limited)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// startInBackground starts this program anew in a session of its own, and shows what it
// says until it can be left alone. It fails if that ends before.
func startInBackground(keeper *os.File, signals signals, shown *screen, log *logrus.Logger) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	said, says, err := os.Pipe()
	if err != nil {
		return err
	}
	defer said.Close()
	daemon := exec.CommandContext(context.Background(), self, os.Args[1:]...) //nolint:gosec // what the user has called
	daemon.Stderr = says
	daemon.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	look := lookPlain
	if viewOf(log) != nil {
		look = lookView
	}
	daemon.Env = append(os.Environ(), detachedEnv+"="+look)
	if keeper != nil {
		daemon.ExtraFiles = []*os.File{keeper}
		daemon.Env = append(daemon.Env, keeperEnv+"=3")
	}
	err = daemon.Start()
	_ = says.Close() // else its end would not be seen
	if err != nil {
		return fmt.Errorf("to the background: %w", err)
	}
	if keeper != nil {
		_ = keeper.Close()
	}
	ended := make(chan error, 1)
	go func() { // until this process ends, if the daemon is left alone
		ended <- daemon.Wait()
		_ = said.SetReadDeadline(time.Now().Add(copyTime)) // a plugin that is left may have the pipe
	}()
	off := signals.passTo(daemon.Process, syscall.SIGTERM)
	left, err := show(shown, viewOf(log), said)
	stopped := off()
	switch {
	case err != nil: // nobody sees what becomes of it
		_ = said.Close() // it is not to wait for a reader
		return errors.Join(err, daemon.Process.Signal(syscall.SIGTERM), outcome(<-ended))
	case left && !stopped:
		return nil
	}
	if err := outcome(<-ended); err != nil {
		return err
	}
	if left {
		fmt.Fprintln(shown, "it was told to end just then: everything is taken back")
	}
	return exitStatus(exitFault) // stopped, as was asked
}

// show shows what a daemon says, by a view if there is one. It tells whether the daemon can
// be left alone now; else it has ended.
func show(on *screen, by *view, said io.Reader) (left bool, err error) {
	if by != nil {
		defer by.draw("")
	}
	for lines := bufio.NewReader(said); ; {
		line, err := lines.ReadBytes('\n')
		text, _, found := bytes.Cut(line, []byte(endOfMessage[:1]))
		if len(text) > 0 {
			if text = append(bytes.TrimSuffix(text, []byte("\n")), '\n'); by != nil {
				by.relay(text)
			} else {
				_, _ = on.Write(text)
			}
		}
		switch gone := on.fault(); {
		case found:
			return true, nil
		case gone != nil:
			return false, gone
		case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded):
			return false, nil
		case err != nil:
			return false, err
		}
	}
}

// closeOnExec has what this process starts get none of its descriptors but those that it
// passes on: what lives on is not to hold its caller's locks and pipes. Where the system
// has no list of them they stay as they are.
func closeOnExec() {
	folder, err := os.Open("/dev/fd")
	if err != nil {
		return
	}
	defer folder.Close()
	names, _ := folder.Readdirnames(-1)
	for _, name := range names {
		if fd, err := strconv.Atoi(name); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}
