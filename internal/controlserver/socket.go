package controlserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/lockedfile"

	"github.com/kubeshore/kubeshore/internal/peer"
	"github.com/kubeshore/kubeshore/pkg/control"
)

const (
	// socketLockTimeout limits the wait for another kubeshore that is starting or stopping.
	socketLockTimeout = 5 * time.Second
	// socketCloseTimeout is the same limit when the socket is closed.
	socketCloseTimeout = time.Second
)

// ErrAlreadyRunning means that another kubeshore listens on the socket.
var ErrAlreadyRunning = errors.New("already running")

// Socket is the listener of the API. Its socket can be recreated while it is in use.
type Socket struct {
	mu     sync.Mutex
	file   *socketFile
	closed bool
}

// socketFile is a listening unix socket with its path.
type socketFile struct {
	*net.UnixListener
	path string
	info fs.FileInfo // as created
}

// Listen listens on the socket in the first usable directory, and creates the directory if
// it is missing. Only this process's user has access. A leftover socket of a killed process
// is replaced. If another kubeshore listens there, Listen returns [ErrAlreadyRunning].
// Closing the listener removes the socket.
func Listen(ctx context.Context, dirs ...string) (*Socket, error) {
	file, err := listenInFirst(ctx, dirs)
	if err != nil {
		return nil, err
	}
	return &Socket{file: file}, nil
}

func listenInFirst(ctx context.Context, dirs []string) (*socketFile, error) {
	failed := errors.New("no directory")
	for i, dir := range dirs {
		file, err := listenIn(ctx, dir)
		switch {
		case err == nil || errors.Is(err, ErrAlreadyRunning):
			return file, err
		case i == 0:
			failed = err
		default:
			failed = fmt.Errorf("%w; %w", failed, err)
		}
	}
	return nil, fmt.Errorf("control socket: %w", failed)
}

func listenIn(ctx context.Context, dir string) (*socketFile, error) {
	path := control.SocketPath(dir)
	if len(path) > peer.MaxPath {
		return nil, fmt.Errorf("path %s is too long: %d bytes, maximum %d", path, len(path), peer.MaxPath)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// The lock makes processes that start at the same time see each other.
	unlock, err := lockSocket(ctx, path, socketLockTimeout)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		return nil, errors.Join(ErrAlreadyRunning, conn.Close())
	case !peer.NotListening(err):
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // the path may lead to another socket by then
	file := &socketFile{UnixListener: l, path: path}
	err = os.Chmod(path, 0o600) // until then, the directory's mode protects it
	if err == nil {
		file.info, err = os.Lstat(path)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(path))
	}
	return file, nil
}

// lockSocket locks a socket's path. It gives up after the timeout: the process that holds
// the lock may be suspended.
func lockSocket(ctx context.Context, path string, timeout time.Duration) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	type result struct {
		unlock func()
		err    error
	}
	results := make(chan result)
	go func() { // waiting for the lock can't be canceled
		unlock, err := lockedfile.MutexAt(path + ".lock").Lock()
		select {
		case results <- result{unlock, err}:
		case <-ctx.Done():
			if err == nil {
				unlock()
			}
		}
	}()
	select {
	case r := <-results:
		return r.unlock, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("lock %s.lock: held by another kubeshore, which may be suspended", path)
	}
}

// inPlace reports whether the path still leads to the socket. It is true if that is unknown.
func (f *socketFile) inPlace() bool {
	now, err := os.Lstat(f.path)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	// SameFile isn't enough: inode numbers are reused.
	return os.SameFile(now, f.info) && now.ModTime().Equal(f.info.ModTime())
}

// Close closes the socket, and removes it if it is in place.
func (f *socketFile) Close() error {
	err := f.UnixListener.Close()
	unlock, lockErr := lockSocket(context.Background(), f.path, socketCloseTimeout)
	if lockErr == nil {
		defer unlock()
	}
	// Without the lock, another process may be about to replace the socket. The lock
	// can't be taken at all if the directory has been removed.
	if !f.inPlace() || lockErr != nil && !errors.Is(lockErr, fs.ErrNotExist) {
		return err
	}
	if removeErr := os.Remove(f.path); !errors.Is(removeErr, fs.ErrNotExist) {
		err = errors.Join(err, removeErr)
	}
	return err
}

// KeepReachable checks the socket at each interval until ctx is done. If the socket has been
// removed, e.g. with its directory, it creates a new one in the first usable directory,
// unless another kubeshore listens there. It reports the path of a new socket, and each
// error that differs from the previous one.
func (s *Socket) KeepReachable(ctx context.Context, interval time.Duration, dirs func() ([]string, error), report func(path string, err error)) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for lastError := ""; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		path, err := s.recreate(ctx, dirs)
		switch {
		case err != nil && err.Error() != lastError && ctx.Err() == nil:
			lastError = err.Error()
			report("", err)
		case path != "":
			lastError = ""
			report(path, nil)
		}
	}
}

// recreate replaces a socket that isn't in place, and returns the path of the new one. The
// path is empty if there is none.
func (s *Socket) recreate(ctx context.Context, dirs func() ([]string, error)) (path string, err error) {
	old := s.current()
	if old.inPlace() {
		return "", nil
	}
	candidates, err := dirs()
	if err != nil {
		return "", err
	}
	file, err := listenInFirst(ctx, candidates)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return "", file.Close()
	}
	s.file = file
	_ = old.Close() // makes Accept continue with the new one
	return file.path, nil
}

func (s *Socket) current() *socketFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file
}

// Accept implements net.Listener.
func (s *Socket) Accept() (net.Conn, error) {
	for {
		file := s.current()
		conn, err := file.Accept()
		if err == nil || !errors.Is(err, net.ErrClosed) || s.current() == file {
			return conn, err
		}
	}
}

// Addr implements net.Listener.
func (s *Socket) Addr() net.Addr { return s.current().Addr() }

// Close implements net.Listener.
func (s *Socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.closed = true
	return s.file.Close()
}
