package fwd

import (
	"errors"
	"slices"
	"time"

	"github.com/kubeshore/kubeshore/internal/backoff"
)

const (
	// restartWindow is how long a pod that seems to terminate or restart is
	// retried without confirmation from the cluster.
	restartWindow = 3 * time.Second
	// minRoundDelay and maxRoundDelay bound the delay between two rounds.
	minRoundDelay = 100 * time.Millisecond
	maxRoundDelay = time.Second
	// maxLostStreams is how many streams that were lost on their way to the
	// cluster are replaced immediately: all pooled connections to the cluster may
	// have died together.
	maxLostStreams = 3
)

// search is the state of one connection's search for a pod that answers. A round
// is one attempt with each candidate.
type search struct {
	accepted           time.Time     // when the client connected
	deadline           time.Time     // when the connection is no longer held
	targets            []destination // of the current rounds
	failed             []failedAttempt
	clusterUnreachable bool      // other candidates are pointless in this round
	lostStreams        int       // over all rounds
	failingSince       time.Time // when the first attempt failed
	nextRound          time.Time // zero during a round
	delay              backoff.Backoff
	err                error // of the last attempt
}

// failedAttempt is an attempt that failed in the current round.
type failedAttempt struct {
	target *targetState
	reason Reason
}

func newSearch(accepted, deadline time.Time) search {
	return search{accepted: accepted, deadline: deadline, delay: backoff.Backoff{Min: minRoundDelay, Max: maxRoundDelay}}
}

// update restarts the search, until its deadline, if the targets have changed.
func (s *search) update(r route) {
	if slices.Equal(s.targets, r.targets) {
		return
	}
	first := s.targets == nil
	s.targets = r.targets
	if first || time.Now().Before(s.deadline) {
		lostStreams, err := s.lostStreams, s.err
		*s = newSearch(s.accepted, s.deadline)
		s.targets, s.lostStreams, s.err = r.targets, lostStreams, err
	}
}

// untried returns the candidates that have not failed in this round.
func (s *search) untried(r route) []destination {
	if s.clusterUnreachable {
		return nil
	}
	return slices.DeleteFunc(r.candidates(), func(d destination) bool {
		_, failed := s.failure(d)
		return failed
	})
}

// failure returns why the destination failed in this round, if it did.
func (s *search) failure(d destination) (Reason, bool) {
	i := slices.IndexFunc(s.failed, func(f failedAttempt) bool { return f.target == d.state })
	if i < 0 {
		return 0, false
	}
	return s.failed[i].reason, true
}

// addFailure records a failed attempt. It returns false if a retry is pointless,
// or if a process may have received bytes of the connection.
func (s *search) addFailure(d destination, dialed bool, err error) bool {
	var unreached *UnreachedError
	if !errors.As(err, &unreached) || unreached.Reason == Denied {
		return false
	}
	if dialed && unreached.Reason == ClusterUnreachable && s.lostStreams < maxLostStreams {
		s.lostStreams++
		return true
	}
	if s.failingSince.IsZero() {
		s.failingSince = time.Now()
	}
	s.err = err
	d.state.refused.Store(unreached.Reason == PortClosed || unreached.Reason == PodGone)
	s.failed = append(s.failed, failedAttempt{d.state, unreached.Reason})
	s.clusterUnreachable = unreached.Reason == ClusterUnreachable
	return true
}

// retryUntil returns the deadline for further rounds, and the error to report after
// it: the connection's deadline if there is no pod, if the cluster
// or a pod's node is unreachable, or if a pod was newly ready when the client
// connected; for restartWindow if a pod seems to
// terminate or restart; otherwise not at all.
func (s *search) retryUntil(r route) (time.Time, error) {
	candidates := r.candidates()
	switch {
	case len(candidates) == 0:
		return s.deadline, errNoPod
	case s.clusterUnreachable:
		return s.deadline, s.err
	}
	var until time.Time
	for _, d := range candidates {
		switch reason, _ := s.failure(d); {
		case d.newlyReady(s.accepted), reason == NodeUnreachable:
			return s.deadline, s.err
		case mayRestart(d, reason):
			until = s.failingSince.Add(restartWindow)
		}
	}
	if until.After(s.deadline) {
		until = s.deadline
	}
	return until, s.err
}

// mayRestart reports whether a failed target is likely to terminate or restart:
// it is terminating, it has worked before, or its pod is gone.
func mayRestart(d destination, reason Reason) bool {
	return d.Terminating || d.state.answered.Load() || reason == PodGone
}

// schedule sets nextRound, unless it is set already. Without candidates, or if
// it would be later, it is until.
func (s *search) schedule(now, until time.Time, candidates bool) {
	if s.nextRound.IsZero() {
		s.nextRound = now.Add(s.roundDelay())
	}
	if !candidates || s.nextRound.After(until) {
		s.nextRound = until
	}
}

// roundDelay returns the delay before the next round. It has full jitter if the
// cluster is unreachable, because all connections wait for the same cluster.
func (s *search) roundDelay() time.Duration {
	delay := s.delay.Next()
	if s.clusterUnreachable {
		return backoff.Jitter(delay)
	}
	return delay
}

// startRound begins a round with the targets that may succeed now.
func (s *search) startRound(r route) {
	for _, d := range r.candidates() {
		reason, failed := s.failure(d)
		if failed && (d.newlyReady(s.accepted) || mayRestart(d, reason) || reason == NodeUnreachable || reason == ClusterUnreachable) {
			s.failed = slices.DeleteFunc(s.failed, func(f failedAttempt) bool { return f.target == d.state })
		}
	}
	s.clusterUnreachable, s.nextRound = false, time.Time{}
}
