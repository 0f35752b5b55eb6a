// Package stopsignal receives the signals that ask a program to stop.
package stopsignal

import (
	"cmp"
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
)

// Signals are the signals that ask the program to stop.
type Signals struct {
	received chan os.Signal
	log      logrus.FieldLogger
}

// Notify starts to listen for signals. SIGHUP stays ignored if it was ignored
// when the program started, as by nohup(1). SIGPIPE doesn't kill the program, so
// that it can clean up; writing to the broken pipe returns an error.
func Notify(log logrus.FieldLogger) Signals {
	s := Signals{received: make(chan os.Signal, 2), log: log}
	signal.Notify(s.received, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(s.received, syscall.SIGHUP)
	}
	// Caught and not ignored: credential plugins would inherit an ignored signal.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	return s
}

// Stop stops listening.
func (s Signals) Stop() { signal.Stop(s.received) }

// ForwardTo sends each signal to a process until stop is called, which reports
// whether there was one. If instead is not nil, that signal is sent.
func (s Signals) ForwardTo(process *os.Process, instead os.Signal) (stop func() (forwarded bool)) {
	return s.Each(func(sig os.Signal) {
		_ = process.Signal(cmp.Or(instead, sig)) // the process may have exited
	})
}

// Each calls handle with each signal until stop is called, which waits for it and
// reports whether there was a signal. Later signals are dropped.
func (s Signals) Each(handle func(os.Signal)) (stop func() (received bool)) {
	done := make(chan struct{})
	received := false
	var handling sync.WaitGroup
	handling.Go(func() {
		for {
			select {
			case sig := <-s.received:
				received = true
				handle(sig)
			case <-done:
				return
			}
		}
	})
	return sync.OnceValue(func() bool {
		close(done)
		handling.Wait()
		return received
	})
}

// sameSignalWindow is how long after a signal another one counts as the same: a
// key pressed in a terminal reaches this process directly and by its keeper.
const sameSignalWindow = 200 * time.Millisecond

// Handle calls stop at the first signal and skipDrain at the second. It returns
// then, or when done is closed.
func (s Signals) Handle(done <-chan struct{}, stop, skipDrain context.CancelFunc) {
	var last time.Time
	for _, step := range []struct {
		message string
		do      func()
	}{
		{"shutting down", stop},
		{"resetting open connections", skipDrain},
	} {
		sig, ok := s.next(done, last)
		if !ok {
			return
		}
		last = time.Now()
		step.do() // before the log, which may block
		s.log.Infof("%v: %s", sig, step.message)
	}
}

// next waits for a signal that is not the same as the last. ok is false when done
// is closed.
func (s Signals) next(done <-chan struct{}, last time.Time) (sig os.Signal, ok bool) {
	for {
		select {
		case <-done:
			return nil, false
		case sig := <-s.received:
			if time.Since(last) > sameSignalWindow {
				return sig, true
			}
		}
	}
}
