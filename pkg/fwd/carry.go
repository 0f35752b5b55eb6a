package fwd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"golang.org/x/sync/errgroup"
)

// carry accepts connections until Ports is closed and carries each to a pod.
// It returns when they all have ended; ctx cuts them off.
func (e *Engine) carry(ctx context.Context) error {
	var connections errgroup.Group
	for {
		conn, err := e.Ports.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				err = nil
			}
			_ = connections.Wait() // each connection's fault is its own
			return err
		}
		connections.Go(func() error {
			e.carryOne(ctx, conn)
			return nil
		})
	}
}

// carryOne takes one connection from its first byte to its end. Whatever goes
// wrong is this connection's fault alone: it is reset, and the reason logged.
func (e *Engine) carryOne(ctx context.Context, conn net.Conn) {
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
		log.Warnf("connection from %v: %v", conn.RemoteAddr(), err)
		reset(conn)
		return
	}
	log = log.WithField("pod", target.Pod.String())
	log.Debugf("connection from %v", conn.RemoteAddr())
	if err := splice(ctx, conn, stream); err != nil {
		log.Debugf("connection from %v broke off: %v", conn.RemoteAddr(), err)
	}
}

// dial opens a stream to the first of the route's candidates that can be
// reached.
func (e *Engine) dial(ctx context.Context, r route) (Stream, Target, error) {
	candidates := r.candidates()
	if len(candidates) == 0 {
		return nil, Target{}, fmt.Errorf("%s has no ready pod", r.host)
	}
	var errs []error
	for _, target := range candidates {
		stream, err := e.Dialer.Dial(ctx, target.Pod, target.Port)
		if err == nil {
			return stream, target, nil
		}
		errs = append(errs, fmt.Errorf("pod %v port %d: %w", target.Pod, target.Port, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, Target{}, errors.Join(errs...)
}

// splice copies both ways until both sides have ended, and closes both. An
// orderly end of one side is passed on as such (half-close); an error of
// either, or the end of ctx, resets the client and ends the stream at once.
func splice(ctx context.Context, conn net.Conn, stream Stream) error {
	breakOff := func() {
		reset(conn)
		_ = stream.Close()
	}
	cutOff := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cutOff)
		breakOff()
	})
	pass := func(to io.Writer, from io.Reader, end func() error) func() error {
		return func() error {
			_, err := io.Copy(to, from)
			if err == nil {
				err = end()
			}
			if err != nil {
				breakOff()
			}
			return err
		}
	}
	var copying errgroup.Group
	copying.Go(pass(stream, conn, stream.CloseWrite))
	copying.Go(pass(conn, stream, func() error { return closeWrite(conn) }))
	err := copying.Wait()
	if !stop() {
		<-cutOff
	}
	if err != nil {
		return err
	}
	return errors.Join(conn.Close(), stream.Close())
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
