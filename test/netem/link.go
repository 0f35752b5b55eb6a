package netem

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubeshore/kubeshore/internal/backoff"
)

// link is one connection through a proxy.
type link struct {
	proxy          *Proxy
	resetBoth      context.CancelFunc
	client, server net.Conn
	lost           atomic.Bool // some data was dropped, so nothing more is delivered
	idleTimeout    time.Duration
	idle           *time.Timer // calls resetBoth; nil without an idle timeout
}

// run forwards the connection until both sides have closed it, one side has
// failed, or ctx ends. In the last two cases it resets both sides.
func (l *link) run(ctx context.Context) {
	if !l.dialTarget(ctx) {
		if l.lost.Load() {
			<-ctx.Done()
		}
		reset(l.client)
		return
	}
	resetSides := func() {
		reset(l.client)
		reset(l.server)
	}
	stop := context.AfterFunc(ctx, resetSides)
	if l.idleTimeout > 0 {
		l.idle = time.AfterFunc(l.idleTimeout, l.resetBoth)
		defer l.idle.Stop()
	}
	var up, down queue
	var copying sync.WaitGroup
	copying.Go(func() { l.receive(ctx, l.client, &up) })
	copying.Go(func() { l.deliver(ctx, l.server, &up) })
	copying.Go(func() { l.receive(ctx, l.server, &down) })
	copying.Go(func() { l.deliver(ctx, l.client, &down) })
	copying.Wait()
	if stop() { // both sides were closed in order
		_ = l.client.Close()
		_ = l.server.Close()
		return
	}
	resetSides() // the AfterFunc may still be running
}

// dialTarget connects to the target and reports whether it succeeded. It fails
// while the proxy is a blackhole.
func (l *link) dialTarget(ctx context.Context) bool {
	roundTrip, _ := l.proxy.state()
	_ = backoff.Sleep(ctx, roundTrip)
	if l.dropIfBlackholed() {
		return false
	}
	var err error
	l.server, err = new(net.Dialer).DialContext(ctx, "tcp", l.proxy.target)
	return err == nil
}

// dropIfBlackholed reports whether data that would be forwarded now is lost.
// Once data was lost, everything after it is lost as well.
func (l *link) dropIfBlackholed() bool {
	if _, blackhole := l.proxy.state(); blackhole {
		l.lost.Store(true)
	}
	return l.lost.Load()
}

// receive queues the data from one side until that side ends.
func (l *link) receive(ctx context.Context, from net.Conn, q *queue) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if l.idle != nil {
			l.idle.Reset(l.idleTimeout)
		}
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

// deliver writes queued data to one side when it is due, until it has
// delivered the end of the other side.
func (l *link) deliver(ctx context.Context, to net.Conn, q *queue) {
	for {
		s, ok := q.pop(ctx)
		if !ok {
			return
		}
		if d := time.Until(s.due); d > 0 {
			_ = backoff.Sleep(ctx, d) // the end of ctx is handled below
		}
		switch {
		case ctx.Err() != nil:
			return
		case l.dropIfBlackholed():
		case errors.Is(s.end, io.EOF):
			if half, ok := to.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite() // an error also shows up in the other direction
			}
			return
		case s.end != nil:
			l.resetBoth()
			return
		default:
			if _, err := to.Write(s.data); err != nil {
				l.resetBoth()
				return
			}
		}
	}
}
