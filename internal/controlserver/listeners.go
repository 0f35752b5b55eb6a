package controlserver

import (
	"errors"
	"net"
	"os"
	"slices"
	"time"

	"github.com/kubeshore/kubeshore/internal/peer"
)

// writeSize is how much a reader has the time for that it is given, in bytes.
const writeSize = 64 << 10

// ownListener refuses connections of other users. The socket's mode and its folder's do
// that too.
type ownListener struct{ net.Listener }

func (l ownListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if isOwn(conn) {
			return conn, nil
		}
		_ = conn.Close()
	}
}

func isOwn(conn net.Conn) bool {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return false
	}
	uid, err := peer.UID(unixConn)
	return errors.Is(err, errors.ErrUnsupported) || err == nil && (uid == os.Geteuid() || uid == 0)
}

// timedListener has who connects take what it is sent in time.
type timedListener struct {
	net.Listener
	limit time.Duration
}

func (l timedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return timedConn{conn, l.limit}, nil
}

// timedConn fails if what is written isn't taken in time. A slow reader who goes on
// reading has the time for each part of it.
type timedConn struct {
	net.Conn
	limit time.Duration
}

func (c timedConn) Write(p []byte) (n int, err error) {
	for part := range slices.Chunk(p, writeSize) {
		if err := c.SetWriteDeadline(time.Now().Add(c.limit)); err != nil {
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
