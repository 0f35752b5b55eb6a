//go:build !windows

package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/internal/controlserver"
	"github.com/kubeshore/kubeshore/internal/daemon"
	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/roothalf"
	"github.com/kubeshore/kubeshore/internal/term"
	"github.com/kubeshore/kubeshore/internal/userdirs"
	"github.com/kubeshore/kubeshore/pkg/control"
)

// IsBackground reports whether this process is a daemon that Detach started. Under
// sudo it isn't, because sudo may have passed the variable on from anybody.
func (o Options) IsBackground() bool {
	if os.Getenv(detachedEnv) == "" {
		return false
	}
	target, err := roothalf.FindTargetUser(o.User)
	return os.Geteuid() != 0 || err == nil && target == nil
}

// Background runs the daemon that Detach started. It logs to a file and, until it
// is detached, to its starter.
func Background(ctx context.Context, o Options, d daemon.Options) error {
	format := os.Getenv(detachedEnv)
	if err := os.Unsetenv(detachedEnv); err != nil { // child processes don't inherit it
		return err
	}
	if err := takeHandover(&d); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGHUP) // the session has no terminal
	if err := daemon.CheckNotRunning(ctx); err != nil {
		return err // before the log file, which is the running daemon's
	}
	path, err := userdirs.LogPath()
	if err != nil {
		return err
	}
	file, err := term.OpenLogFile(path)
	if err != nil {
		return fmt.Errorf("log file: %w", err)
	}
	defer file.Close()
	pipe, err := term.DupStderr()
	if err != nil {
		return err
	}
	defer pipe.Close()
	d.LogFile = path
	starter := term.NewAsyncWriter(pipe)
	starter.OnFlushed = func() { _ = pipe.Close() }
	return starter.Run(func() error {
		return failure.Report(starter, runInBackground(ctx, o, d, file, starter, format))
	})
}

func runInBackground(ctx context.Context, o Options, d daemon.Options, file *term.LogFile, starter *term.AsyncWriter, format string) error {
	log, _ := term.NewLog(file, d.Format, o.Verbosity)
	log.SetFormatter(term.NewFormatter(d.Format, time.DateTime)) // a daemon may run for days
	showStatus := func(string) {}
	formatter := term.NewFormatter(d.Format, time.TimeOnly)
	if format == formatReplay {
		formatter = term.NewReplayFormatter()
		showStatus = func(text string) { _ = term.SendStatus(starter, text) }
	}
	starter.SetFormatter(formatter)
	log.AddHook(&term.WriteHook{To: starter, Formatter: formatter})
	d.OnStart = func(ctx context.Context, running *daemon.Daemon) error {
		if !running.WaitReady(ctx, o.WaitTimeout, showStatus) {
			return nil // it was stopped
		}
		starter.Close(endOfOutput)
		return file.RedirectStderr()
	}
	err := Foreground(ctx, o, d, log)
	if err != nil && !errors.Is(err, controlserver.ErrAlreadyRunning) && !errors.As(err, new(*control.VersionError)) { // else the log file is the running daemon's
		log.ReplaceHooks(make(logrus.LevelHooks)) // the starter gets the error itself
		log.Error(failure.Line(err))
	}
	return err
}
