package tunnel

import (
	"net"
)

// client is where a stream's bytes go without a detour.
type client struct {
	net.Conn
	nowait nowait
}

func newClient(conn net.Conn) *client {
	c := &client{Conn: conn}
	c.nowait.init(conn)
	return c
}

// try writes as much as the client takes without waiting, and takes it off
// chunks. Where the system has no such writes it writes nothing.
func (c *client) try(chunks *net.Buffers) (int64, error) {
	n, err := c.nowait.write(*chunks)
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
func (c *client) write(chunks *net.Buffers) (int64, error) { return chunks.WriteTo(c.Conn) }
