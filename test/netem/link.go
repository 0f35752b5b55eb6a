package netem

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// link is one connection through a proxy.
type link struct {
	proxy          *Proxy
	reset          context.CancelFunc // resets both sides
	client, server net.Conn
	lost           atomic.Bool // something was swallowed: nothing passes any more
}

// run carries the connection until both sides have ended, one of them has
// failed, or ctx ends; in the last two cases both are reset.
func (l *link) run(ctx context.Context) {
	if !l.dialTarget(ctx) {
		if l.lost.Load() {
			<-ctx.Done()
		}
		reset(l.client)
		return
	}
	breakOff := func() {
		reset(l.client)
		reset(l.server)
	}
	stop := context.AfterFunc(ctx, breakOff)
	var up, down queue
	var passing sync.WaitGroup
	passing.Go(func() { l.receive(ctx, l.client, &up) })
	passing.Go(func() { l.deliver(ctx, l.server, &up) })
	passing.Go(func() { l.receive(ctx, l.server, &down) })
	passing.Go(func() { l.deliver(ctx, l.client, &down) })
	passing.Wait()
	if stop() { // both ended in order
		_ = l.client.Close()
		_ = l.server.Close()
		return
	}
	breakOff() // it may not be through yet
}

// dialTarget connects to the target, unless the proxy is silent or the target
// can't be reached.
func (l *link) dialTarget(ctx context.Context) bool {
	roundTrip, _ := l.proxy.state()
	wait(ctx, roundTrip)
	if l.dropIfBlackholed() {
		return false
	}
	var err error
	l.server, err = new(net.Dialer).DialContext(ctx, "tcp", l.proxy.target)
	return err == nil
}

// dropIfBlackholed tells whether what would pass now is lost, and keeps in mind if so.
func (l *link) dropIfBlackholed() bool {
	if _, silent := l.proxy.state(); silent {
		l.lost.Store(true)
	}
	return l.lost.Load()
}

// receive puts what comes from one side on its way, until that ends.
func (l *link) receive(ctx context.Context, from net.Conn, q *queue) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		roundTrip, _ := l.proxy.state()
		due := time.Now().Add(roundTrip / 2)
		if n > 0 && !l.dropIfBlackholed() && !q.push(ctx, segment{due: due, data: append([]byte(nil), buf[:n]...)}) {
			return
		}
		if err != nil {
			if !l.dropIfBlackholed() {
				q.push(ctx, segment{due: due, end: err})
			}
			return
		}
	}
}

// deliver passes on to one side what is due, until the end that the other has
// made has passed too.
func (l *link) deliver(ctx context.Context, to net.Conn, q *queue) {
	for {
		s, ok := q.pop(ctx)
		if !ok {
			return
		}
		if d := time.Until(s.due); d > 0 {
			wait(ctx, d)
		}
		switch {
		case ctx.Err() != nil:
			return
		case l.dropIfBlackholed():
		case errors.Is(s.end, io.EOF):
			if half, ok := to.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite() // if it is closed, the other direction sees that
			}
			return
		case s.end != nil:
			l.reset()
			return
		default:
			if _, err := to.Write(s.data); err != nil {
				l.reset()
				return
			}
		}
	}
}
