package fwd

import (
	"sync"
)

// Traffic counts the connections to a host and their bytes.
type Traffic struct {
	Open      int    // connections that are open now
	Total     uint64 // connections so far, including open ones
	BytesUp   uint64 // bytes from clients
	BytesDown uint64 // bytes from pods
}

func (t *Traffic) add(other Traffic) {
	t.Open += other.Open
	t.Total += other.Total
	t.BytesUp += other.BytesUp
	t.BytesDown += other.BytesDown
}

// byteCounter is a connection that counts its bytes.
type byteCounter interface {
	bytes() Traffic // BytesUp and BytesDown alone
}

// counter counts the connections to a host.
type counter struct {
	mu    sync.Mutex
	open  map[byteCounter]struct{}
	ended Traffic // of connections that are no longer open
}

// begin counts a connection as open until end is called with it.
func (c *counter) begin(conn byteCounter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = make(map[byteCounter]struct{})
	}
	c.open[conn] = struct{}{}
}

func (c *counter) end(conn byteCounter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
	c.ended.Total++
	c.ended.add(conn.bytes())
}

// traffic returns the traffic so far.
func (c *counter) traffic() Traffic {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.ended
	for conn := range c.open {
		all.Open++
		all.Total++
		all.add(conn.bytes())
	}
	return all
}
