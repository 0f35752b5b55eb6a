// Package servertest serves the API of a fake daemon, for tests of its clients.
package servertest

import (
	"context"
	"net/http"
	"os"
	"sync"
	"testing"

	"github.com/kubeshore/kubeshore/internal/controlserver"
	"github.com/kubeshore/kubeshore/internal/wake"
	"github.com/kubeshore/kubeshore/pkg/control"
)

// Daemon is a daemon whose status the test sets.
type Daemon struct {
	controlserver.Daemon

	mu      sync.Mutex
	status  control.Status
	changed wake.Broadcast
}

// NewDaemon returns a daemon with a status.
func NewDaemon(status control.Status) *Daemon { return &Daemon{status: status} }

// Status implements controlserver.Daemon.
func (d *Daemon) Status() control.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status
}

// Changed implements controlserver.Daemon.
func (d *Daemon) Changed() <-chan struct{} { return d.changed.C() }

// Ready implements controlserver.Daemon. It checks nothing.
func (d *Daemon) Ready(_ context.Context, names []string) control.Readiness {
	return control.ReadinessOf(d.Status(), names)
}

// Set sets the status.
func (d *Daemon) Set(status control.Status) {
	d.mu.Lock()
	d.status = status
	d.mu.Unlock()
	d.changed.Fire()
}

// Serve serves a daemon until stop is called, or the test ends.
func Serve(t *testing.T, d controlserver.Daemon) (client *control.Client, stop func()) {
	t.Helper()
	socket, dir := listen(t)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	server := &controlserver.Server{Version: "v1", Daemon: d, Journal: new(controlserver.Journal)}
	go func() { ended <- server.Serve(ctx, socket) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return control.NewClient(dir), stop
}

// ServeHandler serves an HTTP handler in place of a daemon until the test ends, and
// returns the directory of its socket.
func ServeHandler(t *testing.T, handler http.HandlerFunc) (dir string) {
	t.Helper()
	socket, dir := listen(t)
	server := &http.Server{Handler: handler} //nolint:gosec // no timeouts in a test
	go func() { _ = server.Serve(socket) }()
	t.Cleanup(func() { _ = server.Close() })
	return dir
}

// listen opens a socket in a new directory.
func listen(t *testing.T) (socket *controlserver.Socket, dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "socket") // short, because a socket's path has to be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if socket, err = controlserver.Listen(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	return socket, dir
}
