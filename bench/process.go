package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	stopTime = 10 * time.Second // for a forwarder to end when it is told to
	tailSize = 2000             // bytes of what it said that an error shows
)

// process is a running program, with what it prints in a file: that costs it
// the same as a terminal would, and us nothing.
type process struct {
	cmd    *exec.Cmd
	log    string
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // once ended
}

// launch runs a program with a log in the folder dir, which is made if need
// be. It is told to end, and then killed, when ctx ends.
func launch(ctx context.Context, dir string, env []string, program string, args ...string) (*process, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("bench: make folder: %w", err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, fmt.Errorf("bench: make log: %w", err)
	}
	defer log.Close() // the process has its own
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTime
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("bench: start forwarder: %w", err)
	}
	p := &process{cmd: cmd, log: log.Name(), cancel: cancel, ended: make(chan struct{})}
	go p.wait()
	return p, nil
}

// wait closes ended; stop waits for it.
func (p *process) wait() {
	p.err = p.cmd.Wait()
	close(p.ended)
}

// await returns when ready says so of what the process has printed so far.
func (p *process) await(ctx context.Context, ready func(log string) bool) error {
	for {
		text, err := os.ReadFile(p.log)
		if err != nil {
			return fmt.Errorf("bench: read log: %w", err)
		}
		if ready(string(text)) {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("bench: start forwarder: it ended: %w: %s", errors.Join(p.err, errEnded), p.tail())
		case <-ctx.Done():
			return fmt.Errorf("bench: start forwarder: %w: %s", ctx.Err(), p.tail())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// errEnded says that a forwarder ended before it was told to.
var errEnded = errors.New("ended by itself")

// stop ends the process, if there is one, and returns when it has ended.
func (p *process) stop() error {
	if p == nil {
		return nil
	}
	select {
	case <-p.ended:
		p.cancel()
		return fmt.Errorf("bench: stop forwarder: %w: %s", errEnded, p.tail())
	default:
	}
	p.cancel()
	<-p.ended
	return nil
}

// tail is the last of what the process has printed.
func (p *process) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-tailSize):])
}
