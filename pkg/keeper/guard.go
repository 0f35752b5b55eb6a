//go:build linux || darwin

package keeper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

const (
	// guardExitTimeout is how long a guard that has nothing to restore may take to
	// exit. It may still be flushing the DNS cache.
	guardExitTimeout = 7 * time.Second
	// guardRestoreTimeout is how long a guard that has to restore the machine may
	// take to exit.
	guardRestoreTimeout = 15 * time.Second
)

// Guard is a separate process that holds a pipe to the keeper, and restores the
// machine if the keeper dies.
type Guard struct {
	pipe    *os.File
	died    chan struct{} // closed when the process has exited
	exitErr error         // set before died is closed
}

// StartGuard starts command as a guard. It must run a program that calls [Watch]
// with file descriptor 3. The caller must call End.
func StartGuard(command *exec.Cmd) (*Guard, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	defer read.Close()
	command.ExtraFiles = []*os.File{read}
	// In its own session, the guard gets no signals from the keeper's terminal.
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("guard: %w", err), write.Close())
	}
	g := &Guard{pipe: write, died: make(chan struct{})}
	go func() {
		g.exitErr = command.Wait()
		close(g.died)
	}()
	return g, nil
}

// Died returns a channel that is closed when the guard exits, for whatever reason.
func (g *Guard) Died() <-chan struct{} { return g.died }

// End ends the guard and waits until it has exited. restored reports whether the
// machine is restored. If it isn't, the guard tries that, and End returns an
// error if it fails. If the guard had already died, End doesn't return that as an
// error: the caller knows it from Died.
func (g *Guard) End(restored bool) error {
	timeout := guardRestoreTimeout
	if restored {
		timeout = guardExitTimeout
		_, _ = g.pipe.Write([]byte{restoredMessage}) // fails if the guard has died
	}
	alreadyDead := g.hasDied()
	err := g.pipe.Close()
	select {
	case <-g.died:
		if alreadyDead {
			return err
		}
		return errors.Join(err, g.exitErr)
	case <-time.After(timeout):
		return errors.Join(err, fmt.Errorf("the guard did not exit within %v", timeout))
	}
}

// Flush has the guard flush the DNS cache, and doesn't wait for that. So the keeper never
// has to run a program. It does nothing if the guard has died.
func (g *Guard) Flush() {
	_, _ = g.pipe.Write([]byte{flushMessage}) // fails if the guard has died
}

func (g *Guard) hasDied() bool {
	select {
	case <-g.died:
		return true
	default:
		return false
	}
}

// The bytes that a keeper sends to its guard.
const (
	// restoredMessage means that the keeper has restored the machine.
	restoredMessage = 1
	// flushMessage means that the DNS cache is out of date.
	flushMessage = 2
)

// Watch is the main function of a guard. It waits until the keeper at the other
// end of pipe reports that the machine is restored, or exits; then it calls restore.
// Meanwhile it calls flush when the keeper asks for it. Requests during a call of flush
// result in a single one more.
func Watch(pipe io.Reader, restore func() error, flush func()) error {
	needed := make(chan struct{}, 1)
	var flushing sync.WaitGroup
	flushing.Go(func() {
		for range needed {
			flush()
		}
	})
	defer flushing.Wait()
	defer close(needed)
	message := make([]byte, 1)
	for {
		if _, err := io.ReadFull(pipe, message); err != nil { // the keeper is gone
			return restore()
		}
		switch message[0] {
		case restoredMessage:
			return nil
		case flushMessage:
			select {
			case needed <- struct{}{}:
			default:
			}
		default:
			return restore()
		}
	}
}
