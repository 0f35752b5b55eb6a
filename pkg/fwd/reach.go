package fwd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	// minDialTimeout is the timeout of a dial, if HoldTimeout doesn't allow more;
	// failoverDialTimeout is that of a dial while there are other candidates.
	minDialTimeout      = 15 * time.Second
	failoverDialTimeout = 3 * time.Second
	// firstReadSize is the size of the read that waits for the pod's response.
	firstReadSize = 4 << 10
)

var (
	errServiceGone = errors.New("the service was removed")
	errNoPod       = errors.New("no pod is ready")
)

// ErrClientGone is the error of a connection whose client has disconnected.
var ErrClientGone = errors.New("client disconnected")

// answeredStream is the stream of a pod that has answered.
type answeredStream struct {
	stream  Stream
	first   []byte // the first bytes, already read
	err     error  // the error that followed them, if any
	release func() // closes the stream; must be called once it is unused
}

// reach connects to a pod that answers, with as many attempts as necessary. It
// fails when retries are pointless, or when a process may have received bytes of
// the connection.
func (c *connection) reach(ctx context.Context) (answeredStream, error) {
	s := newSearch(c.accepted, c.accepted.Add(c.engine.HoldTimeout))
	for attempted := false; ; {
		replaced := c.engine.table.replaced.C() // before the load: it must not miss a change
		rt, ok := c.engine.table.load()[c.at]
		if !ok {
			return answeredStream{}, errServiceGone
		}
		c.route = rt
		s.update(rt)
		usable := s.untried(rt)
		if len(usable) == 0 {
			if err := c.awaitRound(ctx, &s, replaced); err != nil {
				return answeredStream{}, err
			}
			continue
		}
		c.dest = rt.choose(c.engine.Balance, usable, time.Now())
		timeout := max(minDialTimeout, time.Until(s.deadline))
		if len(usable) > 1 {
			timeout = failoverDialTimeout
		}
		if attempted {
			c.engine.meter().Retried()
		}
		attempted = true
		r, dialed, err := c.attempt(ctx, timeout)
		if err == nil {
			return r, nil
		}
		if !s.addFailure(c.dest, dialed, err) || ctx.Err() != nil || !c.upload.canReplay() {
			return answeredStream{}, err
		}
		c.log.Debugf("pod %v: %s", c.dest.Pod, errorLine(err))
	}
}

// attempt dials the connection's destination, sends the client's bytes and waits
// for the response. It returns whether the dial succeeded.
func (c *connection) attempt(ctx context.Context, dialTimeout time.Duration) (r answeredStream, dialed bool, err error) {
	state := c.dest.state
	dialCtx, cancel := context.WithTimeoutCause(ctx, dialTimeout,
		&UnreachedError{Reason: PodGone, Err: fmt.Errorf("no connection within %v", dialTimeout)})
	began := time.Now()
	stream, err := c.engine.Dialer.Dial(dialCtx, c.dest.Pod, c.dest.Port)
	if err != nil && ctx.Err() == nil && dialCtx.Err() != nil {
		err = context.Cause(dialCtx)
	}
	if err == nil || ctx.Err() == nil { // else it was canceled
		c.engine.meter().Dialed(time.Since(began), err)
	}
	cancel()
	if err != nil {
		state.open.Add(-1)
		return answeredStream{}, false, err
	}
	stop := onDone(ctx, func() { _ = stream.Close() })
	release := func() {
		stop()
		_ = stream.Close()
		state.open.Add(-1)
	}
	c.upload.attach(stream)
	first := make([]byte, firstReadSize)
	n, err := readSome(stream, first)
	if n == 0 && err != nil && !errors.Is(err, io.EOF) {
		c.upload.detach(stream)
		release()
		if !errors.As(err, new(*UnreachedError)) {
			c.reachedPod = true
		}
		return answeredStream{}, true, err
	}
	state.refused.Store(false)
	c.upload.commit()
	return answeredStream{stream: stream, first: first[:n], err: err, release: release}, true, nil
}

// readSome reads until there is at least one byte or an error.
func readSome(r io.Reader, p []byte) (n int, err error) {
	for n == 0 && err == nil {
		n, err = r.Read(p)
	}
	return n, err
}

// awaitRound waits for the next round of attempts, or for new routes. It returns
// the error to give up with if another round is not worthwhile.
func (c *connection) awaitRound(ctx context.Context, s *search, replaced <-chan struct{}) error {
	now := time.Now()
	until, err := s.retryUntil(c.route)
	if !now.Before(until) {
		c.exhausted = true
		return err
	}
	s.schedule(now, until, len(c.route.candidates()) > 0)
	timer := time.NewTimer(s.nextRound.Sub(now))
	defer timer.Stop()
	defer func() { c.held += time.Since(now) }()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.upload.clientGone:
		return ErrClientGone
	case <-replaced:
	case <-timer.C:
		s.startRound(c.route)
	}
	return nil
}
