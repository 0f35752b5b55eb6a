package cli

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

// signals are those that ask the program to end.
type signals struct {
	received chan os.Signal
	log      logrus.FieldLogger
}

// notify starts listening for signals. SIGHUP stays ignored where it was when
// the program started, as under nohup(1). A closed pipe behind stderr ends nothing
// by itself, as nobody would be left to take things back: see startShown.
func notify(log logrus.FieldLogger) signals {
	s := signals{received: make(chan os.Signal, 2), log: log}
	signal.Notify(s.received, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(s.received, syscall.SIGHUP)
	}
	// Not ignored, but caught: what is ignored, credential plugins inherit.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	return s
}

func (s signals) stop() { signal.Stop(s.received) }

// passTo passes signals on to a process until off is called, which waits for that, and
// tells whether there was one. as, if there is one, is passed in place of each.
func (s signals) passTo(process *os.Process, as os.Signal) (off func() (passed bool)) {
	return s.each(func(sig os.Signal) {
		_ = process.Signal(cmp.Or(as, sig)) // it may have ended
	})
}

// each calls act with each signal until off is called, which waits for that, and tells
// whether there was one. Those that come after that are for nobody.
func (s signals) each(act func(os.Signal)) (off func() (came bool)) {
	over := make(chan struct{})
	came := false
	var acting sync.WaitGroup
	acting.Go(func() {
		for {
			select {
			case sig := <-s.received:
				came = true
				act(sig)
			case <-over:
				return
			}
		}
	})
	return sync.OnceValue(func() bool {
		close(over)
		acting.Wait()
		return came
	})
}

// oneSignal is how long after a signal further ones are taken for the same: one
// from the terminal reaches this process by itself, and by its keeper.
const oneSignal = 200 * time.Millisecond

// relay calls end at the first signal and cutShort at the second. It returns
// then, or when finished is closed.
func (s signals) relay(finished <-chan struct{}, end, cutShort context.CancelFunc) {
	var last time.Time
	for _, step := range []struct {
		says string
		act  func()
	}{
		{"taking everything back", end},
		{"not waiting for open connections", cutShort},
	} {
		sig, ok := s.next(finished, last)
		if !ok {
			return
		}
		last = time.Now()
		step.act() // first of all: who reads the log is nobody to wait for
		s.log.Infof("%v: %s", sig, step.says)
	}
}

// next waits for a signal that is another one than the last. ok is false when
// finished is closed.
func (s signals) next(finished <-chan struct{}, last time.Time) (sig os.Signal, ok bool) {
	for {
		select {
		case <-finished:
			return nil, false
		case sig := <-s.received:
			if time.Since(last) > oneSignal {
				return sig, true
			}
		}
	}
}
