package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/lockedfile"
)

// socketName is the name of the socket in its folder.
const socketName = "kubeshore.sock"

// SocketIn returns the path of the socket in a folder.
func SocketIn(folder string) string { return filepath.Join(folder, socketName) }

// ErrRunning says that a kubeshore listens already.
var ErrRunning = errors.New("kubeshore runs already")

// Listen listens at the socket in a folder, which it makes if need be, for its user
// alone. What a killed run has left there it takes away. If a kubeshore answers there it
// fails with [ErrRunning]. Closing the listener removes the socket.
func Listen(ctx context.Context, folder string) (net.Listener, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	path := SocketIn(folder)
	// Of two that start at once, one is to see the other.
	unlock, err := lockedfile.MutexAt(path + ".lock").Lock()
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	defer unlock()
	var d net.Dialer
	if conn, err := d.DialContext(ctx, "unix", path); err == nil {
		return nil, errors.Join(ErrRunning, conn.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil { // the folder is the user's alone until then
		return nil, errors.Join(fmt.Errorf("control socket: %w", err), l.Close())
	}
	return l, nil
}
