//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	err         error // once ended
	hostsBefore []byte
}

// logFile is what a daemon has said so far.
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

// launch runs kubeshore up without waiting for anything. It is stopped with
// the test, and must then leave the hosts file as it was.
func launch(t *testing.T, args ...string) *daemon {
	t.Helper()
	d := startDaemon(t, exec.Command(program, append([]string{"up"}, args...)...))
	t.Cleanup(func() {
		d.stop(t, syscall.SIGTERM)
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", d.log.String())
		}
	})
	return d
}

// startDaemon starts a daemon by a command. The caller ends it.
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

// up runs kubeshore up until it is ready.
func up(t *testing.T, args ...string) *daemon {
	t.Helper()
	d := launch(t, args...)
	d.waitForLog(t, "msg=ready")
	return d
}

// waitForLog waits until the log has the text.
func (d *daemon) waitForLog(t *testing.T, text string) {
	t.Helper()
	eventually(t, fmt.Sprintf("the log says %q", text), func() error {
		if strings.Contains(d.log.String(), text) {
			return nil
		}
		select {
		case <-d.exited:
			t.Fatalf("the daemon ended: %v\n%s", d.err, d.log.String())
		default:
		}
		return fmt.Errorf("it has\n%s", d.log.String())
	})
}

// stop sends a signal and checks that the daemon ends in good order and that
// the machine is as it was.
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

// waitForExit checks that the daemon, which has been told to, ends in good order and
// that the machine is as it was.
func (d *daemon) waitForExit(t *testing.T) {
	t.Helper()
	select {
	case <-d.exited:
	case <-time.After(conditionTimeout):
		_ = d.Process.Kill()
		t.Fatalf("it doesn't end; it says\n%s", d.log.String())
	}
	if d.err != nil {
		t.Errorf("it ends with %v", d.err)
	}
	d.checkRestored(t)
}

// linesSince returns what the log has got since it was that long.
func (d *daemon) linesSince(from int) []string {
	return strings.Split(strings.TrimSuffix(d.log.String()[from:], "\n"), "\n")
}

// waitForLogOnce waits until the log, since it was that long, has a line with the
// text, checks that a moment later it has no other, and returns it.
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
	eventually(t, fmt.Sprintf("the log says %q", text), func() error {
		if len(find()) == 0 {
			return fmt.Errorf("it says\n%s", strings.Join(d.linesSince(from), "\n"))
		}
		return nil
	})
	pause(t, 300*time.Millisecond)
	found := find()
	if len(found) > 1 {
		t.Errorf("it says\n%s\nwant one line with %q", strings.Join(found, "\n"), text)
	}
	return found[0]
}

// logLen returns how long the log is.
func (d *daemon) logLen() int { return len(d.log.String()) }

// hostsRestored tells whether the hosts file is as it was before the daemon.
func (d *daemon) hostsRestored() error {
	after, err := os.ReadFile(hostsFile)
	if err == nil && !bytes.Equal(after, d.hostsBefore) {
		err = fmt.Errorf("%s was\n%s\nand is\n%s", hostsFile, d.hostsBefore, after)
	}
	return err
}

// checkRestored checks that the hosts file is as it was before the daemon.
func (d *daemon) checkRestored(t *testing.T) {
	t.Helper()
	if err := d.hostsRestored(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob("/etc/.hosts*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if left, _ := filepath.Glob("/run/kubeshore*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
