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
	forwarderStopTimeout = 10 * time.Second // for a forwarder to end when it is told to
	logTailSize          = 2000             // bytes of what it said that an error shows
)

// process is a running program, with what it prints in a file: that costs it
// the same as a terminal would, and us nothing.
type process struct {
	cmd     *exec.Cmd
	logPath string
	cancel  context.CancelFunc
	exited  chan struct{}
	err     error // once ended
}

// startProcess runs a program with a log in the folder dir, which is made if need
// be. It is told to end, and then killed, when ctx ends.
func startProcess(ctx context.Context, dir string, env []string, program string, args ...string) (*process, error) {
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
	cmd.WaitDelay = forwarderStopTimeout
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("bench: start forwarder: %w", err)
	}
	p := &process{cmd: cmd, logPath: log.Name(), cancel: cancel, exited: make(chan struct{})}
	go p.wait()
	return p, nil
}

// wait closes ended; stop waits for it.
func (p *process) wait() {
	p.err = p.cmd.Wait()
	close(p.exited)
}

// waitForLog returns when ready says so of what the process has printed so far.
func (p *process) waitForLog(ctx context.Context, ready func(log string) bool) error {
	for {
		text, err := os.ReadFile(p.logPath)
		if err != nil {
			return fmt.Errorf("bench: read log: %w", err)
		}
		if ready(string(text)) {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("bench: start forwarder: it ended: %w: %s", errors.Join(p.err, errExited), p.logTail())
		case <-ctx.Done():
			return fmt.Errorf("bench: start forwarder: %w: %s", ctx.Err(), p.logTail())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// errExited says that a forwarder ended before it was told to.
var errExited = errors.New("ended by itself")

// stop ends the process, if there is one, and returns when it has ended.
func (p *process) stop() error {
	if p == nil {
		return nil
	}
	select {
	case <-p.exited:
		p.cancel()
		return fmt.Errorf("bench: stop forwarder: %w: %s", errExited, p.logTail())
	default:
	}
	p.cancel()
	<-p.exited
	return nil
}

// logTail is the last of what the process has printed.
func (p *process) logTail() string {
	text, err := os.ReadFile(p.logPath)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-logTailSize):])
}
