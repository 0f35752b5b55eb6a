package controlserver

import (
	"errors"
	"net"
	"os"
	"slices"
	"time"

	"github.com/kubeshore/kubeshore/internal/peer"
)

// writeChunk is how much a reader has the time for that it is given, in bytes.
const writeChunk = 64 << 10

// ownUserListener refuses connections of other users. The socket's mode and its folder's do
// that too.
type ownUserListener struct{ net.Listener }

func (l ownUserListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if isOwnUser(conn) {
			return conn, nil
		}
		_ = conn.Close()
	}
}

func isOwnUser(conn net.Conn) bool {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return false
	}
	uid, err := peer.UID(unixConn)
	return errors.Is(err, errors.ErrUnsupported) || err == nil && (uid == os.Geteuid() || uid == 0)
}

// writeTimeoutListener has who connects take what it is sent in time.
type writeTimeoutListener struct {
	net.Listener
	timeout time.Duration
}

func (l writeTimeoutListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return writeTimeoutConn{conn, l.timeout}, nil
}

// writeTimeoutConn fails if what is written isn't taken in time. A slow reader who goes on
// reading has the time for each part of it.
type writeTimeoutConn struct {
	net.Conn
	timeout time.Duration
}

func (c writeTimeoutConn) Write(p []byte) (n int, err error) {
	for part := range slices.Chunk(p, writeChunk) {
		if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
			return n, err
		}
		written, err := c.Conn.Write(part)
		n += written
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
