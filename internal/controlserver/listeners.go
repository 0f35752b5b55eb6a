package controlserver

import (
	"errors"
	"net"
	"os"
	"slices"
	"time"

	"github.com/kubeshore/kubeshore/internal/peer"
)

// ownUserListener closes connections of other users than this process's user and root. It
// is a second line of defense after the modes of the socket and its directory.
type ownUserListener struct{ net.Listener }

// Accept implements net.Listener.
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

// writeTimeoutListener applies a write timeout to the connections that it accepts.
type writeTimeoutListener struct {
	net.Listener
	timeout time.Duration
}

// Accept implements net.Listener.
func (l writeTimeoutListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return writeTimeoutConn{conn, l.timeout}, nil
}

// writeChunk is the number of bytes that the write timeout applies to. A client that reads
// slowly but steadily doesn't time out.
const writeChunk = 64 << 10

// writeTimeoutConn is a connection with a timeout for each chunk that is written to it.
type writeTimeoutConn struct {
	net.Conn
	timeout time.Duration
}

// Write implements net.Conn.
func (c writeTimeoutConn) Write(p []byte) (n int, err error) {
	for chunk := range slices.Chunk(p, writeChunk) {
		if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
			return n, err
		}
		written, err := c.Conn.Write(chunk)
		n += written
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
