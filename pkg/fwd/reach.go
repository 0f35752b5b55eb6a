package fwd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// dialTime is how long a dial may take at least, however short hold is;
	// otherTime, if there are other pods to try.
	dialTime  = 15 * time.Second
	otherTime = 3 * time.Second
	// restartTime is how long a pod is tried again of which it is likely that
	// it ends or starts anew, as long as the cluster doesn't say so.
	restartTime = 3 * time.Second
	// minPause and maxPause are between two rounds of tries.
	minPause = 100 * time.Millisecond
	maxPause = time.Second
	// maxLost is how many streams may be lost on their way to the cluster for
	// which another is tried at once: connections to it that were kept for the
	// next stream may all have died together.
	maxLost = 3
	// firstSize is how much is read of an answer to see that there is one.
	firstSize = 4 << 10
)

var (
	errServiceGone = errors.New("its service is gone")
	errNoPod       = errors.New("no pod is ready")
	errClientGone  = errors.New("the client has gone")
)

// answer is a pod's stream and how it begins.
type answer struct {
	stream  Stream
	begin   []byte
	err     error  // what ended it right after that
	release func() // closes the stream; to be called once nobody uses it any more
}

// search is one connection's way to a pod that answers. A round is one try for
// each candidate.
type search struct {
	deadline time.Time     // until when there is waiting
	targets  []destination // those that the rounds are about
	failed   []failedTry   // of this round
	away     bool          // the cluster is: another candidate is of no use
	lost     int           // streams that were, ever
	since    time.Time     // when the first round had failed
	next     time.Time     // when the next begins; zero while one goes on
	pause    time.Duration
	err      error // the last try's
}

type failedTry struct {
	to  *past
	why Reason
}

// reach looks for a pod that answers, through as many tries as it takes. It
// fails when trying on is useless, or when a process may have seen what the
// client said.
func (c *connection) reach(ctx context.Context) (answer, error) {
	s := search{deadline: c.accepted.Add(c.engine.Hold)}
	for tried := false; ; {
		now := c.engine.table.load()
		r, ok := now.routes[c.at]
		if !ok {
			return answer{}, errServiceGone
		}
		c.route = r
		s.see(r)
		usable := s.untried(r)
		if len(usable) == 0 {
			if err := c.wait(ctx, &s, now.replaced); err != nil {
				return answer{}, err
			}
			continue
		}
		c.to = r.choose(c.engine.Balance, usable, time.Now())
		limit := max(dialTime, time.Until(s.deadline))
		if len(usable) > 1 {
			limit = otherTime
		}
		if tried {
			c.engine.meter().Retried()
		}
		tried = true
		a, dialled, err := c.try(ctx, limit)
		if err == nil {
			return a, nil
		}
		if !s.fails(c.to, dialled, err) || ctx.Err() != nil || !c.up.canRepeat() {
			return answer{}, err
		}
		c.log.Debugf("pod %v: %s", c.to.Pod, oneLine(err))
	}
}

// try dials the connection's destination, says what the client has said, and
// waits for the answer; limit is how long the dial may take. It tells whether
// the dial at least succeeded.
func (c *connection) try(ctx context.Context, limit time.Duration) (a answer, dialled bool, err error) {
	open := c.to.past
	limited, cancel := context.WithTimeoutCause(ctx, limit, &UnreachedError{Why: PodGone, Err: fmt.Errorf("no connection within %v", limit)})
	begin := time.Now()
	stream, err := c.engine.Dialer.Dial(limited, c.to.Pod, c.to.Port)
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		err = context.Cause(limited)
	}
	if err == nil || ctx.Err() == nil { // else it was called off
		c.engine.meter().Dialed(time.Since(begin), err)
	}
	cancel()
	if err != nil {
		open.open.Add(-1)
		return answer{}, false, err
	}
	stop := onEnd(ctx, func() { _ = stream.Close() })
	release := func() {
		stop()
		_ = stream.Close()
		open.open.Add(-1)
	}
	c.up.attach(stream)
	first := make([]byte, firstSize)
	n, err := readSome(stream, first)
	if n == 0 && err != nil && !errors.Is(err, io.EOF) {
		c.up.detach(stream)
		release()
		if !errors.As(err, new(*UnreachedError)) {
			c.met = true
		}
		return answer{}, true, err
	}
	c.to.past.closed.Store(false)
	c.up.settle()
	return answer{stream: stream, begin: first[:n], err: err, release: release}, true, nil
}

// readSome reads until there is something or an error.
func readSome(r io.Reader, p []byte) (n int, err error) {
	for n == 0 && err == nil {
		n, err = r.Read(p)
	}
	return n, err
}

// wait returns when there is something to try again, or the error with which to
// give up.
func (c *connection) wait(ctx context.Context, s *search, replaced <-chan struct{}) error {
	now := time.Now()
	until, err := s.worthUntil(c.route, now)
	if !now.Before(until) {
		c.vain = true
		return err
	}
	if s.next.IsZero() {
		s.next = now.Add(s.backOff())
	}
	if len(c.route.candidates()) == 0 || s.next.After(until) {
		s.next = until
	}
	timer := time.NewTimer(s.next.Sub(now))
	defer timer.Stop()
	defer func() { c.held += time.Since(now) }()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.up.left:
		return errClientGone
	case <-replaced:
	case <-timer.C:
		s.again(c.route)
	}
	return nil
}

// see starts a round afresh if the route leads elsewhere than before.
func (s *search) see(r route) {
	if slices.Equal(s.targets, r.targets) {
		return
	}
	first := s.targets == nil
	s.targets = r.targets
	if first || time.Now().Before(s.deadline) {
		*s = search{deadline: s.deadline, targets: r.targets, lost: s.lost, err: s.err}
	}
}

// untried returns the candidates that have not failed in this round.
func (s *search) untried(r route) []destination {
	if s.away {
		return nil
	}
	return slices.DeleteFunc(r.candidates(), func(d destination) bool {
		_, failed := s.failure(d)
		return failed
	})
}

func (s *search) failure(d destination) (Reason, bool) {
	i := slices.IndexFunc(s.failed, func(f failedTry) bool { return f.to == d.past })
	if i < 0 {
		return 0, false
	}
	return s.failed[i].why, true
}

// fails notes a failed try. It is false if another is of no use, or if it
// isn't certain that no process has seen the connection's bytes.
func (s *search) fails(d destination, dialled bool, err error) bool {
	var unreached *UnreachedError
	if !errors.As(err, &unreached) || unreached.Why == Denied {
		return false
	}
	if dialled && unreached.Why == ClusterAway && s.lost < maxLost {
		s.lost++
		return true
	}
	if s.since.IsZero() {
		s.since = time.Now()
	}
	s.err = err
	d.past.closed.Store(unreached.Why == PortClosed || unreached.Why == PodGone)
	s.failed = append(s.failed, failedTry{d.past, unreached.Why})
	s.away = unreached.Why == ClusterAway
	return true
}

// worthUntil returns until when another round may do better than those before,
// and what to say if it doesn't: for as long as the connection is held if there
// is no pod, if the cluster is away or if a pod has just become ready; for a
// moment if a pod seems to end or to start anew; else not at all.
func (s *search) worthUntil(r route, now time.Time) (time.Time, error) {
	candidates := r.candidates()
	switch {
	case len(candidates) == 0:
		return s.deadline, errNoPod
	case s.away:
		return s.deadline, s.err
	}
	var until time.Time
	for _, d := range candidates {
		switch why, _ := s.failure(d); {
		case d.fresh(now):
			return s.deadline, s.err
		case restarts(d, why):
			until = s.since.Add(restartTime)
		}
	}
	if until.After(s.deadline) {
		until = s.deadline
	}
	return until, s.err
}

// restarts tells whether a target that failed is likely to end or to start
// anew: the cluster says so, or it has worked before, or its pod isn't there.
func restarts(d destination, why Reason) bool {
	return d.Terminating || d.past.worked.Load() || why == PodGone
}

// again begins a round with those that may do better now.
func (s *search) again(r route) {
	now := time.Now()
	for _, d := range r.candidates() {
		why, failed := s.failure(d)
		if failed && (d.fresh(now) || restarts(d, why) || why == ClusterAway) {
			s.failed = slices.DeleteFunc(s.failed, func(f failedTry) bool { return f.to == d.past })
		}
	}
	s.away, s.next = false, time.Time{}
}

// backOff returns how long to wait for the next round: twice as long each time;
// if the cluster is away, with full jitter, as all connections wait for it.
func (s *search) backOff() time.Duration {
	s.pause = min(max(2*s.pause, minPause), maxPause)
	if s.away {
		return rand.N(s.pause) //nolint:gosec // not a secret
	}
	return s.pause
}
