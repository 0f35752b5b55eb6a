package fwd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/internal/netaddr"
	"github.com/kubeshore/kubeshore/internal/printable"
)

// maxErrorLength bounds errors that may quote another machine, in runes.
const maxErrorLength = 1000

// forward accepts connections until Ports is closed, and forwards each to a
// pod. It returns when all of them have ended; the end of ctx aborts them. It
// calls stopped when Ports accepts no more connections.
func (e *Engine) forward(ctx context.Context, stopped func()) error {
	var connections sync.WaitGroup
	for {
		conn, err := e.Ports.Accept()
		if err != nil {
			stopped()
			if errors.Is(err, net.ErrClosed) {
				err = nil
			}
			connections.Wait()
			return err
		}
		connections.Go(func() { e.forwardOne(ctx, conn) })
	}
}

// forwardOne forwards one connection until it ends. An error resets this
// connection and affects no other.
func (e *Engine) forwardOne(ctx context.Context, conn net.Conn) {
	at := netaddr.AddrPort(conn.LocalAddr())
	r, ok := e.table.load()[at]
	if !ok { // the Service was removed meanwhile
		reset(conn)
		return
	}
	c := &connection{
		engine: e, client: conn, at: at, accepted: time.Now(), route: r,
		log: e.Log.WithField("host", r.host.String()).WithField("port", at.Port()),
	}
	if err := c.run(ctx); err != nil && ctx.Err() == nil {
		e.reportFailure(c, err)
	}
}

// reportFailure reports a failed connection. If it didn't reach a process, the
// reason becomes a problem of its host in the Status. Otherwise it is logged, at
// most once per connectionLogInterval.
func (e *Engine) reportFailure(c *connection, err error) {
	if errors.Is(err, ErrClientGone) {
		c.log.Debug(ErrClientGone)
		return
	}
	reachedPod := c.reachedPod || !c.upload.canReplay() && !errors.As(err, new(*UnreachedError))
	e.meter().Failed(failureKind(reachedPod, err))
	level, text := logrus.WarnLevel, "connection reset: "+errorLine(err)
	switch {
	case reachedPod:
		level, text = logrus.InfoLevel, fmt.Sprintf("lost connection to pod %v: %s", c.dest.Pod, errorLine(err))
	case errors.Is(err, errNoPod) && e.HoldTimeout > 0:
		text = fmt.Sprintf("connection reset: no pod became ready within %v (--hold)", e.HoldTimeout)
	case errors.Is(err, errNoPod), errors.Is(err, errServiceGone):
	default:
		if p, ok := newProblem(c.dest, err); ok {
			level = logrus.DebugLevel // the Status reports it
			if c.route.recordFailure(p, c.exhausted) {
				e.requestReplan()
			}
		}
	}
	if level != logrus.DebugLevel && !c.route.portState.allowLog(time.Now()) {
		level = logrus.DebugLevel
	}
	c.log.Log(level, text)
}

// closeWrite ends the sending half of the client's connection. The client may
// be gone already.
func closeWrite(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		return
	}
	_ = conn.Close()
}

// reset closes the client's connection with a reset, so that the client gets an
// error instead of an end of file.
func reset(conn net.Conn) {
	if tcp, ok := conn.(interface{ SetLinger(seconds int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close() // an error has no recipient
}

// errorLine returns the text of err, which may quote another machine, as a line
// that is safe for a terminal.
func errorLine(err error) string {
	if err == nil {
		return ""
	}
	return printable.Line(err.Error(), maxErrorLength)
}
