//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// daemon is a running `kubeshore up`.
type daemon struct {
	*exec.Cmd
	log         logFile
	exited      chan struct{}
	err         error // valid once exited is closed
	hostsBefore []byte
}

// logFile collects the log of a daemon.
type logFile struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logFile) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// launch starts kubeshore up and doesn't wait for it. The test's cleanup stops
// it and checks that the hosts file is restored.
func launch(t *testing.T, args ...string) *daemon {
	t.Helper()
	d := startDaemon(t, exec.Command(program, append([]string{"up"}, args...)...))
	t.Cleanup(func() {
		d.stop(t, syscall.SIGTERM)
		if t.Failed() {
			t.Logf("log of the daemon:\n%s", d.log.String())
		}
	})
	return d
}

// startDaemon runs a command as a daemon. The caller must end it.
func startDaemon(t *testing.T, command *exec.Cmd) *daemon {
	t.Helper()
	before, err := os.ReadFile(hostsFile)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{Cmd: command, exited: make(chan struct{}), hostsBefore: before}
	d.Stderr = &d.log
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		d.err = d.Wait()
		close(d.exited)
	}()
	return d
}

// up starts kubeshore up and waits until it is ready.
func up(t *testing.T, args ...string) *daemon {
	t.Helper()
	d := launch(t, args...)
	d.waitForStart(t)
	return d
}

// waitForStart waits for the last line of the start.
func (d *daemon) waitForStart(t *testing.T) {
	t.Helper()
	d.waitForOneOf(t, "ready: ", "no services to forward")
}

// waitForLog waits until the log contains text.
func (d *daemon) waitForLog(t *testing.T, text string) {
	t.Helper()
	d.waitForOneOf(t, text)
}

// waitForOneOf waits until the log contains one of the texts.
func (d *daemon) waitForOneOf(t *testing.T, texts ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("log contains %q", texts), func() error {
		log := d.log.String()
		if slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(log, text) }) {
			return nil
		}
		select {
		case <-d.exited:
			t.Fatalf("daemon exited: %v\n%s", d.err, d.log.String())
		default:
		}
		return fmt.Errorf("got log\n%s", d.log.String())
	})
}

// stop sends a signal and checks that the daemon exits without an error and
// restores the machine.
func (d *daemon) stop(t *testing.T, signal os.Signal) {
	t.Helper()
	select {
	case <-d.exited:
		return
	default:
	}
	if err := d.Process.Signal(signal); err != nil {
		t.Error(err)
	}
	d.waitForExit(t)
}

// waitForExit waits for a daemon that was asked to stop, and checks that it
// exits without an error and restores the machine.
func (d *daemon) waitForExit(t *testing.T) {
	t.Helper()
	select {
	case <-d.exited:
	case <-time.After(conditionTimeout):
		_ = d.Process.Kill()
		t.Fatalf("daemon did not exit within %v; log:\n%s", conditionTimeout, d.log.String())
	}
	if d.err != nil {
		t.Errorf("daemon exited with %v, want no error", d.err)
	}
	d.checkRestored(t)
}

// linesSince returns the log lines after the first from bytes.
func (d *daemon) linesSince(from int) []string {
	return strings.Split(strings.TrimSuffix(d.log.String()[from:], "\n"), "\n")
}

// waitForLogOnce waits until the log after the first from bytes has a line
// with text, checks that no second one follows within a moment, and returns
// the line.
func (d *daemon) waitForLogOnce(t *testing.T, from int, text string) string {
	t.Helper()
	find := func() (found []string) {
		for _, line := range d.linesSince(from) {
			if strings.Contains(line, text) {
				found = append(found, line)
			}
		}
		return found
	}
	eventually(t, fmt.Sprintf("log contains %q", text), func() error {
		if len(find()) == 0 {
			return fmt.Errorf("got log\n%s", strings.Join(d.linesSince(from), "\n"))
		}
		return nil
	})
	pause(t, 300*time.Millisecond)
	found := find()
	if len(found) > 1 {
		t.Errorf("got lines\n%s\nwant one line with %q", strings.Join(found, "\n"), text)
	}
	return found[0]
}

// logLen returns the current length of the log.
func (d *daemon) logLen() int { return len(d.log.String()) }

// hostsRestored returns an error if the hosts file differs from the one before
// the daemon started.
func (d *daemon) hostsRestored() error {
	after, err := os.ReadFile(hostsFile)
	if err != nil {
		return err
	}
	if !bytes.Equal(after, d.hostsBefore) {
		return fmt.Errorf("%s: got\n%s\nwant\n%s", hostsFile, after, d.hostsBefore)
	}
	return nil
}

// checkRestored checks that the daemon has restored the hosts file and left no
// files behind.
func (d *daemon) checkRestored(t *testing.T) {
	t.Helper()
	if err := d.hostsRestored(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob("/etc/.hosts*"); len(left) > 0 {
		t.Errorf("got leftover files %v, want none", left)
	}
	if left, _ := filepath.Glob("/run/kubeshore*"); len(left) > 0 {
		t.Errorf("got leftover files %v, want none", left)
	}
}
