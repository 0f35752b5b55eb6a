package fwd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"golang.org/x/sync/errgroup"
)

// lingerTime is how long the client may go on sending after the pod has ended
// the connection in good order. A socket that is closed with bytes unread
// resets, and the client could lose the end of the answer.
const lingerTime = 30 * time.Second

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
	if err != nil {
		reset(conn)
		return
	}
	r, ok := (*e.routes.Load())[at]
	if !ok { // its service has just gone
		reset(conn)
		return
	}
	log := e.Log.WithField("host", r.host.String()).WithField("port", at.Port())
	stream, target, err := e.dial(ctx, r)
	if err != nil {
		if text := oneLine(err); r.record.news(text) {
			log.Warnf("a connection was reset: %s", text)
		}
		reset(conn)
		return
	}
	log.Debugf("%v goes to pod %v", conn.RemoteAddr(), target.Pod)
	err = copyBoth(ctx, conn, stream)
	switch text := oneLine(err); {
	case err == nil:
		r.record.news("")
	case ctx.Err() != nil: // cut off, as the engine ends
	case r.record.news(text):
		log.Infof("a connection to pod %v broke off: %s", target.Pod, text)
	}
}

// dial opens a stream to the first of the route's candidates that can be
// reached.
func (e *Engine) dial(ctx context.Context, r route) (Stream, Target, error) {
	candidates := r.candidates()
	if len(candidates) == 0 {
		return nil, Target{}, errors.New("no pod is ready")
	}
	var errs []error
	for _, target := range candidates {
		stream, err := e.Dialer.Dial(ctx, target.Pod, target.Port)
		if err == nil {
			return stream, target, nil
		}
		errs = append(errs, fmt.Errorf("pod %v: %w", target.Pod, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, Target{}, errors.Join(errs...)
}

// copyBoth copies both ways until the pod has ended the connection, and closes
// both. The client's orderly end is passed on as such (half-close); the pod's
// is the end of the connection, as the runtime has then ended both halves. An
// error of either, or the end of ctx, resets the client and closes the stream.
func copyBoth(ctx context.Context, conn net.Conn, stream Stream) error {
	var once sync.Once
	var cause error // what broke it off; the rest is what came of that
	breakOff := func(err error) {
		once.Do(func() { cause = err })
		reset(conn)
		_ = stream.Close()
	}
	cutOff := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cutOff)
		breakOff(context.Cause(ctx))
	})
	var answered atomic.Bool
	var copying sync.WaitGroup
	copying.Go(func() {
		_, err := io.Copy(stream, conn)
		if err == nil {
			err = stream.CloseWrite()
		}
		switch {
		case answered.Load(): // the pod doesn't take it any more
			_, _ = io.Copy(io.Discard, conn)
		case err != nil:
			breakOff(err)
		}
	})
	copying.Go(func() {
		_, err := io.Copy(conn, stream)
		if err == nil {
			answered.Store(true)
			_ = stream.Close() // before the client goes on: the next connection may have its place
			_ = conn.SetReadDeadline(time.Now().Add(lingerTime))
			err = closeWrite(conn)
		}
		if err != nil {
			breakOff(err)
		}
	})
	copying.Wait()
	if !stop() {
		<-cutOff
	}
	_, _ = conn.Close(), stream.Close() // both have ended already
	return cause
}

// closeWrite passes on an orderly end to the client.
func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return conn.Close()
}

// reset ends the client's connection in such a way that the client gets an
// error and not an end of file.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
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
	printable := func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}
	line := strings.Join(strings.Fields(strings.Map(printable, err.Error())), " ")
	if len(line) > maxLine {
		line = strings.ToValidUTF8(line[:maxLine], "") + "…"
	}
	return line
}
