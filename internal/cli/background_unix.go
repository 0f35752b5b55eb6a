//go:build !windows

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/kubeshore/kubeshore/internal/controlserver"
	"github.com/kubeshore/kubeshore/pkg/control"
)

// startDetached is the daemon in the background.
func startDetached(ctx context.Context, f upFlags) error {
	look := os.Getenv(detachedEnv)
	if err := os.Unsetenv(detachedEnv); err != nil { // what it starts isn't
		return err
	}
	signal.Ignore(syscall.SIGHUP) // no terminal is its own
	err := alreadyAnywhere(ctx)   // else the log file is another's
	if err != nil {
		return err
	}
	if f.logFile, err = logPath(); err != nil {
		return err
	}
	file, err := openLogFile(f.logFile)
	if err != nil {
		return fmt.Errorf("log file: %w", err)
	}
	defer file.Close()
	pipe, err := ownStderr()
	if err != nil {
		return err
	}
	defer pipe.Close()
	starter := newScreen(pipe)
	starter.ended = func() { _ = pipe.Close() }
	return starter.during(func() error {
		log := newLog(file, f.logFormat, f.verbose)
		log.SetFormatter(newFormatter(f.logFormat, time.DateTime)) // it lives for days
		draw := func(string) {}
		starter.formatter = newFormatter(f.logFormat, time.TimeOnly)
		if look == lookView {
			starter.formatter = newFormatter(formatJSON, "")
			draw = func(text string) { _ = json.NewEncoder(starter).Encode(saidLast{&text}) }
		}
		log.AddHook(&writeHook{starter, starter.formatter})
		f.ready = func(ctx context.Context, daemon *running) error {
			if !daemon.await(ctx, f.wait, draw) {
				return nil // it has been told to end before
			}
			starter.close(endOfMessage)
			return file.takeStderr()
		}
		err := start(ctx, f, log)
		if err != nil && !errors.Is(err, controlserver.ErrAlreadyRunning) && !errors.As(err, new(*control.VersionError)) { // else as above
			log.ReplaceHooks(make(logrus.LevelHooks)) // who has started this hears it in its own words
			log.Error(err)
		}
		return err
	})
}

// ownStderr returns what stderr is, whatever that becomes.
func ownStderr() (*os.File, error) {
	fd, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	return os.NewFile(uintptr(fd), "stderr"), nil
}

// takeStderr has what the process writes to stderr, as the runtime does when it can't go
// on, go into the file, and into those that come after it.
func (l *logFile) takeStderr() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opened = func(file *os.File) error {
		return os.NewSyscallError("dup2", unix.Dup2(int(file.Fd()), 2))
	}
	return l.opened(l.file)
}

// await waits until all services can answer, or the time is over, and says what can't
// then. Meanwhile draw has what is waited for, when it changes. It is false if ctx ended
// before.
func (r *running) await(ctx context.Context, limit time.Duration, draw func(string)) bool {
	over := time.After(limit)
	tick := time.NewTicker(drawEvery)
	defer tick.Stop()
	for drawn := ""; ; {
		changed := r.Changed()
		status := r.Status()
		readiness := control.ReadinessOf(status, nil)
		if readiness.Ready {
			return true
		}
		if text := r.awaited(status, readiness); text != drawn {
			draw(text)
			drawn = text
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		case <-tick.C:
		case <-over:
			r.engine.Log.Warnf("not all of it is ready after %v (--wait): %s", limit, describeReadiness(readiness))
			return true
		}
	}
}

// maxAwaited is how many services a last line says to be waited for.
const maxAwaited = 3

// awaited says in a line what stands, and what is waited for.
func (r *running) awaited(status control.Status, readiness control.Readiness) string {
	if !status.Synced || len(readiness.Waiting) == 0 {
		return r.lastLine()
	}
	var names []string
	for _, s := range readiness.Waiting[:min(len(readiness.Waiting), maxAwaited)] {
		names = append(names, s.Name)
	}
	if len(readiness.Waiting) > maxAwaited {
		names = append(names, "…")
	}
	return summary(status, "waiting for "+strings.Join(names, ", "))
}

// saidLast is a last line, as a daemon says it to who has started it.
type saidLast struct {
	Last *string `json:"last"` // nil: it is something else that is said
}

// relay shows a line that a daemon has said: an entry of its log, a last line, or, as it
// is, what else it may have written.
func (v *view) relay(line []byte) {
	var said struct {
		saidLast
		Time    time.Time    `json:"time"`
		Level   logrus.Level `json:"level"`
		Message *string      `json:"msg"`
	}
	var data logrus.Fields
	err := errors.Join(json.Unmarshal(line, &said), json.Unmarshal(line, &data))
	switch {
	case err == nil && said.Last != nil:
		v.draw(*said.Last)
	case err == nil && said.Message != nil:
		for _, name := range []string{logrus.FieldKeyTime, logrus.FieldKeyLevel, logrus.FieldKeyMsg} {
			delete(data, name)
		}
		_ = v.Fire(&logrus.Entry{Time: said.Time, Level: said.Level, Message: *said.Message, Data: data})
	default:
		_, _ = v.screen.Write(line)
	}
}
