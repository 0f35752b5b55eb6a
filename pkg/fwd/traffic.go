package fwd

import (
	"sync"

	"github.com/kubeshore/kubeshore/pkg/plan"
)

// Traffic is what the connections to a host have come to so far.
type Traffic struct {
	Open  int    // connections, now
	Total uint64 // connections, those that are open too
	Up    uint64 // bytes that clients have said
	Down  uint64 // bytes that pods have said
}

// add adds what other has.
func (t *Traffic) add(other Traffic) {
	t.Open += other.Open
	t.Total += other.Total
	t.Up += other.Up
	t.Down += other.Down
}

// counter counts the connections to a host.
type counter struct {
	mu    sync.Mutex
	open  map[*connection]struct{}
	ended Traffic
}

// begin counts a connection, until end is called with it.
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

// traffic returns what there was so far.
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

// bytes returns what has gone over the connection so far.
func (c *connection) bytes() Traffic {
	t := Traffic{Up: c.up.heard.Load()}
	if stream := c.answering.Load(); stream != nil {
		n, _ := (*stream).Received()
		t.Down = uint64(max(n, 0))
	}
	return t
}

// Traffic returns what connections have come to so far, by the host that they were
// made to: since it has last come. Anyone may call it at any time.
func (e *Engine) Traffic() map[plan.HostID]Traffic {
	all := make(map[plan.HostID]Traffic)
	now := e.table.load()
	if now == nil {
		return all
	}
	for _, r := range now.routes {
		if _, counted := all[r.host]; !counted { // by another of its ports
			all[r.host] = r.common.counter.traffic()
		}
	}
	return all
}
