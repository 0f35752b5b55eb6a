package tunnel

import (
	"net"
	"sync"
)

// bulkConn stands below TLS and makes few large system calls of TLS's many
// small ones, which come a record (16 KiB) at a time.
type bulkConn struct {
	net.Conn
	in         []byte
	begin, end int // of in: what was read and not yet handed out

	mu   sync.Mutex // for writing: TLS itself may have something to say while it reads
	cork bool
	out  []byte // what is written while corked
}

func newBulkConn(conn net.Conn) *bulkConn {
	return &bulkConn{Conn: conn, in: make([]byte, readSize)}
}

// Read is for one goroutine at a time.
func (c *bulkConn) Read(p []byte) (int, error) {
	if c.begin == c.end {
		n, err := c.Conn.Read(c.in)
		if err != nil {
			return 0, err
		}
		c.begin, c.end = 0, n
	}
	n := copy(p, c.in[c.begin:c.end])
	c.begin += n
	return n, nil
}

func (c *bulkConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cork {
		c.out = append(c.out, p...)
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// together calls write and then sends all that it wrote to c at once.
func (c *bulkConn) together(write func() error) error {
	c.mu.Lock()
	c.cork = true
	c.mu.Unlock()
	err := write()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cork = false
	if err == nil && len(c.out) > 0 {
		_, err = c.Conn.Write(c.out)
	}
	c.out = c.out[:0]
	return err
}
