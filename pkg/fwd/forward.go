package fwd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
)

// maxLine bounds what is logged of another machine's words, in bytes.
const maxLine = 500

// forward accepts connections until Ports is closed and forwards each to a
// pod. It returns when they all have ended; ctx cuts them off. stopped is
// called as soon as no more are accepted.
func (e *Engine) forward(ctx context.Context, stopped func()) error {
	var connections errgroup.Group
	for {
		conn, err := e.Ports.Accept()
		if err != nil {
			stopped()
			if errors.Is(err, net.ErrClosed) {
				err = nil
			}
			_ = connections.Wait() // each connection's fault is its own
			return err
		}
		connections.Go(func() error {
			e.forwardOne(ctx, conn)
			return nil
		})
	}
}

// forwardOne takes one connection from its first byte to its end. Whatever
// goes wrong is this connection's fault alone: it is reset.
func (e *Engine) forwardOne(ctx context.Context, conn net.Conn) {
	at, err := netip.ParseAddrPort(conn.LocalAddr().String())
	r, ok := e.table.load().routes[at]
	if err != nil || !ok { // its service has just gone
		reset(conn)
		return
	}
	c := &connection{
		engine: e, client: conn, at: at, accepted: time.Now(), route: r,
		log: e.Log.WithField("host", r.host.String()).WithField("port", at.Port()),
	}
	if err := c.run(ctx); err != nil && ctx.Err() == nil {
		e.account(c, err)
	}
}

// account says what went wrong with a connection: what kept it from reaching a
// process becomes its host's problem, which the Status has; the rest is logged,
// now and then.
func (e *Engine) account(c *connection, err error) {
	if errors.Is(err, errClientGone) {
		c.log.Debug("the client has gone")
		return
	}
	met := c.met || !c.up.canRepeat() && !errors.As(err, new(*UnreachedError))
	e.meter().Failed(faultOf(met, err))
	level, text := logrus.WarnLevel, "a connection was reset: "+oneLine(err)
	switch {
	case met:
		level, text = logrus.InfoLevel, fmt.Sprintf("a connection to pod %v broke off: %s", c.to.Pod, oneLine(err))
	case errors.Is(err, errNoPod):
		text = fmt.Sprintf("a connection was reset: no pod is ready, nor became so within %v (--hold)", e.Hold)
	case errors.Is(err, errServiceGone):
	default:
		if f, ok := newFault(c.at.Port(), c.to, err); ok {
			level = logrus.DebugLevel // the report of the Status says it
			if c.route.blame(f, c.vain) {
				e.poke()
			}
		}
	}
	if level != logrus.DebugLevel && !c.route.record.maySay(time.Now()) {
		level = logrus.DebugLevel
	}
	c.log.Log(level, text)
}

// poke has the Status made anew.
func (e *Engine) poke() {
	select {
	case e.poked <- struct{}{}:
	default:
	}
}

// closeWrite passes on an orderly end to the client. It may have gone already.
func closeWrite(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		return
	}
	_ = conn.Close()
}

// reset ends the client's connection in such a way that the client gets an
// error and not an end of file.
func reset(conn net.Conn) {
	if tcp, ok := conn.(interface{ SetLinger(seconds int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close() // there is nobody left to tell
}

// oneLine returns what err says as a line that a terminal can show: it may
// quote another machine.
func oneLine(err error) string {
	if err == nil {
		return ""
	}
	return Printable(err.Error())
}

// Printable returns a text of another machine's as a line that a terminal can show, and
// that isn't too long.
func Printable(text string) string {
	printable := func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}
	line := strings.Join(strings.Fields(strings.Map(printable, text)), " ")
	if len(line) > maxLine {
		line = strings.ToValidUTF8(line[:maxLine], "") + "…"
	}
	return line
}
