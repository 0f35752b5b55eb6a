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

// ErrAlreadyRunning says that a kubeshore listens already.
var ErrAlreadyRunning = errors.New("kubeshore runs already")

// Socket is the listener at the control socket.
type Socket struct {
	mu     sync.Mutex
	file   *socketFile
	closed bool
}

// socketFile is a socket that has a path.
type socketFile struct {
	*net.UnixListener
	path string
	info fs.FileInfo // what was there at first
}

// Listen listens at the socket in the first of the folders that it can be had in, which
// it makes if need be, for its user alone. What a killed run has left there it takes away.
// If a kubeshore answers there it fails with [ErrAlreadyRunning]. Closing the listener removes
// the socket.
func Listen(ctx context.Context, folders ...string) (*Socket, error) {
	at, err := listenInFirst(ctx, folders)
	if err != nil {
		return nil, err
	}
	return &Socket{file: at}, nil
}

func listenInFirst(ctx context.Context, folders []string) (*socketFile, error) {
	fault := errors.New("it has no folder")
	for i, folder := range folders {
		at, err := listenIn(ctx, folder)
		switch {
		case err == nil || errors.Is(err, ErrAlreadyRunning):
			return at, err
		case i == 0:
			fault = err
		default:
			fault = fmt.Errorf("%w; %w", fault, err)
		}
	}
	return nil, fmt.Errorf("control socket: %w", fault)
}

func listenIn(ctx context.Context, folder string) (*socketFile, error) {
	path := control.SocketPath(folder)
	if len(path) > peer.MaxPath {
		return nil, fmt.Errorf("its path %s is too long: it has %d bytes, and a socket's may have %d", path, len(path), peer.MaxPath)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	// Of two that start at once, one is to see the other.
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
	l.SetUnlinkOnClose(false) // by then it may be another's
	at := &socketFile{UnixListener: l, path: path}
	err = os.Chmod(path, 0o600) // the folder is the user's alone until then
	if err == nil {
		at.info, err = os.Lstat(path)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(path))
	}
	return at, nil
}

// socketLockTimeout is how long another kubeshore may take that is just starting or ending.
const socketLockTimeout = 5 * time.Second

// lockSocket takes the lock of a socket's path. Who has it may be stopped: that is not waited for
// without end.
func lockSocket(ctx context.Context, path string, limit time.Duration) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	type lock struct {
		unlock func()
		err    error
	}
	had := make(chan lock)
	go func() { // nobody can take it back
		unlock, err := lockedfile.MutexAt(path + ".lock").Lock()
		select {
		case had <- lock{unlock, err}:
		case <-ctx.Done():
			if err == nil {
				unlock()
			}
		}
	}()
	select {
	case l := <-had:
		return l.unlock, l.err
	case <-ctx.Done():
		return nil, fmt.Errorf("another kubeshore has %s.lock, and neither starts nor ends: it may be stopped (SIGSTOP)", path)
	}
}

// inPlace tells whether the path leads to the socket.
func (s *socketFile) inPlace() bool {
	now, err := os.Lstat(s.path)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist) // it isn't certain
	}
	// An inode's number may be given again.
	return os.SameFile(now, s.info) && now.ModTime().Equal(s.info.ModTime())
}

func (s *socketFile) Close() error {
	err := s.UnixListener.Close()
	unlock, e := lockSocket(context.Background(), s.path, serverShutdownTimeout)
	if e == nil {
		defer unlock()
	}
	if !s.inPlace() || e != nil && !errors.Is(e, fs.ErrNotExist) { // its folder may be gone, or it be another's in a moment
		return err
	}
	if e := os.Remove(s.path); !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}

// KeepReachable looks now and then whether the socket's path leads to it, until ctx ends. If it
// doesn't, as its folder was emptied, it listens anew in the first of the folders that it
// can be had in, unless another kubeshore does. said hears where, or of another reason why
// not than before.
func (s *Socket) KeepReachable(ctx context.Context, every time.Duration, folders func() ([]string, error), said func(path string, err error)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for fault := ""; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		path, err := s.recreate(ctx, folders)
		switch {
		case err != nil && err.Error() != fault && ctx.Err() == nil:
			fault = err.Error()
			said("", err)
		case path != "":
			fault = ""
			said(path, nil)
		}
	}
}

// recreate listens anew if need be. It returns where; nothing if there is no need.
func (s *Socket) recreate(ctx context.Context, folders func() ([]string, error)) (path string, err error) {
	before := s.current()
	if before.inPlace() {
		return "", nil
	}
	where, err := folders()
	if err != nil {
		return "", err
	}
	next, err := listenInFirst(ctx, where)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return "", next.Close()
	}
	s.file = next
	_ = before.Close() // Accept goes on with the next
	return next.path, nil
}

func (s *Socket) current() *socketFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file
}

// Accept implements net.Listener.
func (s *Socket) Accept() (net.Conn, error) {
	for {
		at := s.current()
		conn, err := at.Accept()
		if err == nil || !errors.Is(err, net.ErrClosed) || s.current() == at {
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
