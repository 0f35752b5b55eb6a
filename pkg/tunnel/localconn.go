package tunnel

import (
	"net"
)

// localConn is where a stream's bytes go without a detour.
type localConn struct {
	net.Conn
	nonblocking nonblockingWriter
}

func newLocalConn(conn net.Conn) *localConn {
	c := &localConn{Conn: conn}
	c.nonblocking.init(conn)
	return c
}

// writeNow writes as much as the client takes without waiting, and takes it off
// chunks. Where the system has no such writes it writes nothing.
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

// write writes until all is taken, an error comes or the deadline is over.
func (c *localConn) write(chunks *net.Buffers) (int64, error) { return chunks.WriteTo(c.Conn) }
