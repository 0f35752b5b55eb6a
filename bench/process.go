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
	forwarderStopTimeout = 10 * time.Second // after SIGTERM
	logTailSize          = 2000             // bytes of output in an error
)

// process is a running program. Its output goes to a file, which costs the
// program the same as a terminal would, and costs bench nothing.
type process struct {
	cmd     *exec.Cmd
	logPath string
	cancel  context.CancelFunc
	exited  chan struct{}
	err     error // valid once exited is closed
}

// startProcess runs a program with a log in dir, which it creates if
// necessary. When ctx ends, the program gets SIGTERM, and SIGKILL if it does
// not exit in time.
func startProcess(ctx context.Context, dir string, env []string, program string, args ...string) (*process, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("bench: create directory: %w", err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, fmt.Errorf("bench: create log: %w", err)
	}
	defer log.Close() // the process has a copy
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

// wait closes exited when the process has exited; stop waits for that.
func (p *process) wait() {
	p.err = p.cmd.Wait()
	close(p.exited)
}

// waitForLog returns when ready reports true for the output so far.
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
			return fmt.Errorf("bench: start forwarder: %w: %s", errors.Join(p.err, errExited), p.logTail())
		case <-ctx.Done():
			return fmt.Errorf("bench: start forwarder: %w: %s", ctx.Err(), p.logTail())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// errExited reports that a forwarder exited before it was stopped.
var errExited = errors.New("exited unexpectedly")

// stop ends the process, if any, and returns when it has exited.
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

// logTail returns the end of the output.
func (p *process) logTail() string {
	text, err := os.ReadFile(p.logPath)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-logTailSize):])
}
