package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
)

const (
	columns, rows  = 84, 30
	prompt         = "\x1b[32m$\x1b[0;1m "
	keyInterval    = 35 * time.Millisecond   // between two keys
	commandDelay   = 600 * time.Millisecond  // before a command is typed
	statusDelay    = 1500 * time.Millisecond // until the status line shows the traffic
	sessionTimeout = 2 * time.Minute
	exitTimeout    = 30 * time.Second
)

// record runs the session, and returns what its two terminals show.
func record(kubeconfig string) (recordings []recording, err error) {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "kubeshore-picture")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	env, err := environment(ctx, dir, kubeconfig)
	if err != nil {
		return nil, err
	}
	started := time.Now()
	up, use := newTerminal(started, dir, env), newTerminal(started, dir, env)

	stopped := make(chan error, 1)
	go func() {
		stopped <- up.run(ctx, "kubeshore up -n shop,data")
		cancel()
	}()
	defer func() {
		cancel()
		if stopErr := <-stopped; !errors.Is(stopErr, context.Canceled) { // it exits with status 0 then
			err = errors.Join(err, stopErr)
		}
	}()
	ready := exec.CommandContext(ctx, "sh", "-c", "until kubeshore wait 2>/dev/null; do sleep 0.05; done")
	ready.Env = env
	if err := ready.Run(); err != nil {
		return nil, fmt.Errorf("wait for services: %w; the terminal shows\n%s", err, up.show())
	}
	for _, command := range []string{"curl http://go-ok", "curl http://db-0.db.data:5432", "kubeshore ps"} {
		if err := use.run(ctx, command); err != nil {
			return nil, fmt.Errorf("%s: %w; the terminal shows\n%s", command, err, use.show())
		}
	}
	pause(ctx, statusDelay)
	return []recording{up.show(), use.show()}, ctx.Err()
}

// environment makes dir the home of the user nobody, and returns this user's
// environment under sudo, because kubeshore is usually started by a user who
// isn't root.
func environment(ctx context.Context, dir, kubeconfig string) ([]string, error) {
	nobody, err := user.Lookup("nobody")
	if err != nil {
		return nil, err
	}
	const install = `install -D -m 755 -t "$2/bin" bin/kubeshore bin/kubeshore-root && install -D -m 600 "$3" "$2/.kube/config" && chown -R "$1" "$2"`
	cmd := exec.CommandContext(ctx, "sh", "-c", install, "sh", nobody.Uid, dir, kubeconfig) //nolint:gosec // all arguments are quoted
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("install kubeshore: %w: %s", err, out)
	}
	return []string{
		"HOME=" + dir, "PATH=" + dir + "/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"KUBECONFIG=.kube/config", // relative, because the picture shows it
		"SUDO_UID=" + nobody.Uid, "SUDO_GID=" + nobody.Gid, "SUDO_USER=nobody", "XDG_RUNTIME_DIR=" + dir, "XDG_STATE_HOME=" + dir,
		"TERM=xterm-256color", "LANG=C.UTF-8", "TZ=UTC",
	}, nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// terminal records what it shows: commands after a prompt, as they are typed,
// and their output.
type terminal struct {
	started time.Time
	dir     string
	env     []string

	mu     sync.Mutex
	output []output
}

func newTerminal(started time.Time, dir string, env []string) *terminal {
	t := &terminal{started: started, dir: dir, env: env}
	_, _ = t.Write([]byte(prompt))
	return t
}

// Write shows text. It never fails.
func (t *terminal) Write(text []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.output = append(t.output, output{time.Since(t.started).Milliseconds(), string(text)})
	return len(text), nil
}

func (t *terminal) show() recording {
	t.mu.Lock()
	defer t.mu.Unlock()
	return recording{columns, rows, t.output[:len(t.output):len(t.output)]}
}

// run types a command and runs it in the terminal, until it exits. When ctx is
// done, the command is interrupted as with Ctrl-C.
func (t *terminal) run(ctx context.Context, command string) error {
	pause(ctx, commandDelay)
	for _, key := range command {
		_, _ = io.WriteString(t, string(key))
		pause(ctx, keyInterval)
	}
	_, _ = io.WriteString(t, "\x1b[0m\r\n")
	cmd := exec.CommandContext(ctx, "env", strings.Fields(command)...) // env finds it in our PATH
	cmd.Env, cmd.Dir = t.env, t.dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = exitTimeout
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: rows, Cols: columns})
	if err != nil {
		return err
	}
	defer tty.Close()
	_, _ = io.Copy(t, tty) // until no process has it
	err = cmd.Wait()
	_, _ = io.WriteString(t, prompt)
	return err
}
