//go:build !windows

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"sync"
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
	lookPlain    = "plain"
	lookTerminal = "terminal"
	lookColours  = "colours"
)

// endOfMessage is what a daemon writes last to who has started it, once that may go.
const endOfMessage = 0

// detach starts a daemon in the background, asks for what must be asked for, and shows
// what the daemon says until it can be left alone.
func detach(ctx context.Context, f upFlags, streams Streams, log *logrus.Logger) error {
	conn, err := inherited() // before anything is started, as it would have it too
	if err != nil {
		return err
	}
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
	if err := logIn(ctx, f, log); err != nil {
		return err
	}
	keeper, err := f.keeperFor(ctx, p, conn)
	if err != nil {
		return err
	}
	if keeper != nil {
		defer keeper.Close()
	}
	if err := startInBackground(keeper, streams, log); err != nil {
		return err
	}
	status, err := control.NewClient(folders...).Status(ctx)
	if err != nil {
		return fmt.Errorf("the background process doesn't answer: %w", err)
	}
	works := 0
	for _, s := range status.Services {
		if s.State.Works() {
			works++
		}
	}
	fmt.Fprintf(streams.Err, "kubeshore runs in the background (process %d): %d of %d services can answer. See kubeshore ps, logs, down.\n",
		status.PID, works, len(status.Services))
	return nil
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
	defer signals.passTo(command.Process, nil)()
	return outcome(command.Wait())
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
func startInBackground(keeper *os.File, streams Streams, log *logrus.Logger) error {
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
	switch {
	case hasColours(streams.Err):
		look = lookColours
	case isTerminal(streams.Err):
		look = lookTerminal
	}
	daemon.Env = append(os.Environ(), detachedEnv+"="+look)
	if keeper != nil {
		daemon.ExtraFiles = []*os.File{keeper}
		daemon.Env = append(daemon.Env, keeperEnv+"=3")
	}
	signals := notify(log)
	defer signals.stop()
	err = daemon.Start()
	_ = says.Close() // else its end would not be seen
	if err != nil {
		return fmt.Errorf("to the background: %w", err)
	}
	if keeper != nil {
		_ = keeper.Close()
	}
	defer signals.passTo(daemon.Process, syscall.SIGTERM)()
	switch left, err := show(streams.Err, said); {
	case err != nil: // nobody sees what becomes of it
		_ = said.Close() // it is not to wait for a reader
		return errors.Join(err, daemon.Process.Signal(syscall.SIGTERM), outcome(daemon.Wait()))
	case left:
		return nil
	}
	if err := outcome(daemon.Wait()); err != nil {
		return err
	}
	return exitStatus(exitFault) // stopped, as was asked, before it was ready
}

// show copies what a daemon says. It tells whether the daemon can be left alone now; else
// it has ended.
func show(to io.Writer, said io.Reader) (left bool, err error) {
	chunk := make([]byte, 4096)
	for {
		n, err := said.Read(chunk)
		text, _, found := bytes.Cut(chunk[:n], []byte{endOfMessage})
		if _, err := to.Write(text); err != nil {
			return false, err
		}
		if found {
			return true, nil
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// startDetached is the daemon in the background.
func startDetached(ctx context.Context, f upFlags, streams Streams) error {
	look := os.Getenv(detachedEnv)
	if err := os.Unsetenv(detachedEnv); err != nil { // what it starts isn't
		return err
	}
	signal.Ignore(syscall.SIGHUP) // no terminal is its own
	var err error
	if f.logFile, err = logPath(); err != nil {
		return err
	}
	file, err := openLogFile(f.logFile)
	if err != nil {
		return fmt.Errorf("log file: %w", err)
	}
	defer file.Close()
	log := newLog(file, f.logFormat, f.verbose)
	log.SetFormatter(newFormatter(f.logFormat, time.DateTime)) // it lives for days
	starter := &gate{to: streams.Err}
	if look == lookPlain {
		log.AddHook(&writeHook{starter, newFormatter(f.logFormat, time.TimeOnly)})
	} else {
		log.AddHook(&view{out: starter, colours: look == lookColours, width: func() int { return 0 }})
	}
	f.ready = func(ctx context.Context, daemon *running) error {
		if !daemon.await(ctx, f.wait) {
			return nil // it has been told to end before
		}
		if view := viewOf(log); view != nil {
			view.draw("")
		}
		starter.close()
		return file.takeStderr()
	}
	err = start(ctx, f, log)
	if err != nil {
		newLog(file, f.logFormat, 0).Error(err)
	}
	if err != nil && starter.closed() { // what Main would say is said
		return exitStatus(exitFault)
	}
	return err
}

// gate lets through what is written until it is closed; that somebody is gone who would
// read it is no fault.
type gate struct {
	mu sync.Mutex
	to io.Writer // nil once closed
}

func (g *gate) Write(line []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.to != nil {
		_, _ = g.to.Write(line)
	}
	return len(line), nil
}

func (g *gate) closed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.to == nil
}

// close writes the end of message.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, _ = g.to.Write([]byte{endOfMessage})
	g.to = nil
}

// takeStderr has what the process writes to stderr, as the runtime does when it can't go
// on, go into the file.
func (l *logFile) takeStderr() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return os.NewSyscallError("dup2", unix.Dup2(int(l.file.Fd()), 2))
}

// await waits until all services can answer, or the time is over, and says what can't
// then. It is false if ctx ended before.
func (r *running) await(ctx context.Context, limit time.Duration) bool {
	over := time.After(limit)
	for {
		changed := r.Changed()
		status := r.Status()
		readiness := control.ReadinessOf(status, nil)
		if readiness.Ready {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		case <-over:
			r.engine.Log.Warnf("not all of it is ready after %v (--wait): %s", limit, describeReadiness(readiness))
			return true
		}
	}
}
