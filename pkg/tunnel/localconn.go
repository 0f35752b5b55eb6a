package tunnel

import "net"

// localConn is a stream's connection to its client.
type localConn struct {
	net.Conn
	nonblocking nonblockingWriter
}

func newLocalConn(conn net.Conn) *localConn {
	c := &localConn{Conn: conn}
	c.nonblocking.init(conn)
	return c
}

// writeNow writes as much as fits without blocking, and removes that from chunks.
// It writes nothing on systems without non-blocking writes.
func (c *localConn) writeNow(chunks *net.Buffers) (int64, error) {
	n, err := c.nonblocking.write(*chunks)
	for left := n; left > 0; {
		first := (*chunks)[0]
		if left < len(first) {
			(*chunks)[0] = first[left:]
			break
		}
		left -= len(first)
		*chunks = (*chunks)[1:]
	}
	return int64(n), err
}

// write writes all chunks. It blocks until then, an error or the deadline.
func (c *localConn) write(chunks *net.Buffers) (int64, error) { return chunks.WriteTo(c.Conn) }
