package fwd

import (
	"sync"

	"github.com/kubeshore/kubeshore/pkg/plan"
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

// counter counts the connections to a host.
type counter struct {
	mu    sync.Mutex
	open  map[*connection]struct{}
	ended Traffic // of connections that are no longer open
}

// begin counts a connection as open until end is called with it.
func (c *counter) begin(conn *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = make(map[*connection]struct{})
	}
	c.open[conn] = struct{}{}
}

func (c *counter) end(conn *connection) {
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

// bytes returns the bytes of the connection so far.
func (c *connection) bytes() Traffic {
	t := Traffic{BytesUp: c.upload.bytesIn.Load()}
	if stream := c.stream.Load(); stream != nil {
		n, _ := (*stream).Received()
		t.BytesDown = uint64(max(n, 0))
	}
	return t
}

// Traffic returns the traffic of each host since the host last appeared. Any
// goroutine may call it at any time.
func (e *Engine) Traffic() map[plan.HostID]Traffic {
	all := make(map[plan.HostID]Traffic)
	for _, r := range e.table.load() {
		if _, counted := all[r.host]; !counted { // with another of its ports
			all[r.host] = r.hostState.counter.traffic()
		}
	}
	return all
}
