package tunnel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// mute returns an upstream whose other side reads all and says nothing.
func mute(t *testing.T) *upstream {
	t.Helper()
	ours, theirs := net.Pipe()
	u := newUpstream(ours, nil)
	var running sync.WaitGroup
	running.Go(func() { _, _ = io.Copy(io.Discard, theirs) })
	running.Go(func() { _ = u.read() })
	t.Cleanup(func() {
		u.fail(errUpstreamClosed)
		_ = theirs.Close()
		running.Wait()
	})
	return u
}

// poolOf returns a pool of upstreams, each with that many streams.
func poolOf(streams int, upstreams ...*upstream) *pool {
	p := newPool(nil, make(chan func(context.Context), maxUsableUpstreams))
	for _, u := range upstreams {
		p.upstreams[u] = streams
		if streams == 0 {
			p.idle = append(p.idle, u)
		}
	}
	return p
}

// A waiter that missed both a dial that failed and a later one that succeeded
// goes on waiting, as the connection may be busy for a moment.
func TestGetAfterADialThatFailedAndOneThatDidNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := mute(t)
		p := poolOf(0)
		got := make(chan error, 1)
		go func() {
			u, err := p.acquire(t.Context())
			if u != busy {
				err = errors.Join(err, errors.New("not the connection that there is"))
			}
			got <- err
		}()
		synctest.Wait()
		busy.mu.Lock()
		busy.writingSince = time.Now().Add(-time.Second)
		busy.mu.Unlock()
		p.mu.Lock()
		p.recordFailureLocked(errors.New("refused"))
		p.dialErr, p.notBefore = nil, time.Time{}
		p.upstreams[busy] = 1
		p.changed.Fire()
		p.mu.Unlock()
		synctest.Wait()
		busy.mu.Lock()
		busy.writingSince = time.Time{}
		busy.mu.Unlock()
		if err := <-got; err != nil {
			t.Error(err)
		}
	})
}

// A connection that is held up by its client doesn't count: however many there
// are, another one is dialled.
func TestHeldUpConnectionsAreNotInTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := make([]*upstream, 0, maxUsableUpstreams)
		for range maxUsableUpstreams {
			u := mute(t)
			u.writingSince = time.Now().Add(-time.Second)
			all = append(all, u)
		}
		start := make(chan func(context.Context))
		p := poolOf(1, all...)
		p.tasks = start
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = p.acquire(ctx)
		}()
		<-start // it is asked for
		cancel()
		<-ended
	})
}

// What was not used for long is closed, but for a spare, also while other
// connections to the pod are in use.
func TestReapLeavesASpare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		used, idle := mute(t), []*upstream{mute(t), mute(t), mute(t)}
		p := poolOf(0, idle...)
		p.upstreams[used], p.lastUsed = 1, time.Now()
		if p.reap(time.Now().Add(24 * time.Hour)) {
			t.Error("the pool is given up although it is used")
		}
		open := 0
		for _, u := range idle {
			if u.alive() {
				open++
			}
		}
		if open != 1 || !used.alive() {
			t.Errorf("%d unused connections are left, the used one works: %v", open, used.alive())
		}
	})
}

// A server that asks for answers and takes none is given up.
func TestPingFloodEndsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		u := newUpstream(ours, nil)
		ended := make(chan error, 1)
		go func() { ended <- u.read() }()
		u.writeMu.Lock() // as an upload does that is backed up
		flood := bytes.Repeat(appendPing(nil, 2), maxQueuedControl)
		_, _ = theirs.Write(flood)
		if err := <-ended; !errors.Is(err, errProtocol) && !strings.Contains(u.err.Error(), "answers") {
			t.Errorf("reading ends with %v", err)
		}
		_ = theirs.Close()
	})
}

// Bytes after the end are the server's fault, not the end of the answer.
func TestBytesAfterTheEnd(t *testing.T) {
	u := newUpstream(said{from: bytes.NewReader(appendDataHeader(append(appendDataHeader(nil, 3, flagFin, 2), "ab"...), 3, 0, 2))}, nil)
	s, err := u.open(80)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.read(); !errors.Is(err, errProtocol) {
		t.Errorf("reading ends with %v", err)
	}
	if _, err := io.ReadAll(s); err == nil {
		t.Error("the stream ends in good order")
	}
}

// An upload over a slow line is not taken for silence, although the answer to
// the question stands behind it.
func TestSlowLineIsNotSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := mute(t)
		s, err := u.open(80)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write(make([]byte, 900<<10)); err != nil {
			t.Fatal(err)
		}
		<-time.After(30 * time.Second) // of the bubble
		u.check(time.Now())
		if !u.alive() {
			t.Error("900 KiB had 30 seconds")
		}
		<-time.After(5 * time.Minute)
		u.check(time.Now())
		if u.alive() {
			t.Error("a server that never answers is not given up")
		}
	})
}

// After a fast transfer, small answers come at once again.
func TestFastReadingEnds(t *testing.T) {
	ours, theirs := tcpPair(t)
	c := newBulkConn(ours)
	c.handshakeDone()
	const size = 4 << 20
	sent := make(chan error, 1)
	go func() {
		_, err := theirs.Write(make([]byte, size))
		sent <- err
	}()
	if _, err := io.CopyN(io.Discard, c, size); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := theirs.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if c.fast {
		t.Error("it still waits for many bytes")
	}
}

// What no dial can better is said at once, until it is time to look again.
func TestDenialIsSaidAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := poolOf(0)
		denied := &fwd.UnreachedError{Reason: fwd.Denied, Err: errors.New("may not")}
		p.mu.Lock()
		for range 10 {
			p.recordFailureLocked(denied)
		}
		p.notBefore = time.Now().Add(time.Second)
		p.mu.Unlock()
		begin := time.Now()
		if _, err := p.acquire(t.Context()); !errors.Is(err, denied) || time.Since(begin) > 0 {
			t.Errorf("get says %v after %v", err, time.Since(begin))
		}
	})
}

// Of connections that come at once each has one to the API server of its own,
// unless that takes its time and they need not wait for it.
func TestBurst(t *testing.T) {
	const size = 8
	for name, c := range map[string]struct {
		takes  time.Duration // a dial
		warm   bool
		shares bool
		want   time.Duration // for the slowest
	}{
		"cold":              {takes: 10 * time.Millisecond, want: 10 * time.Millisecond},
		"cold and far away": {takes: 200 * time.Millisecond, want: 200 * time.Millisecond},
		"warm":              {takes: 10 * time.Millisecond, warm: true, want: 10 * time.Millisecond},
		"warm and far away": {takes: 200 * time.Millisecond, warm: true, shares: true},
	} {
		t.Run(name, func(t *testing.T) {
			dialing(t, func(t *testing.T, d *Dialer, n *network) {
				n.takes = c.takes
				if c.warm {
					first, _ := greeted(t, d)
					<-time.After(2 * time.Second) // there is a spare then
					defer first.Close()
				}
				var mu sync.Mutex
				var slowest time.Duration
				used := make(map[*upstream]bool)
				open := make([]fwd.Stream, 0, size)
				var burst sync.WaitGroup
				for range size {
					burst.Go(func() {
						s, took := greeted(t, d)
						mu.Lock()
						defer mu.Unlock()
						slowest, open = max(slowest, took), append(open, s)
						used[s.(*leasedStream).up] = true
					})
				}
				burst.Wait()
				if slowest > c.want || (len(used) < size) != c.shares {
					t.Errorf("they have %d connections, the slowest after %v", len(used), slowest)
				}
				<-time.After(2 * time.Second)
				want := size + 1 // and a spare
				if c.warm {
					want++
				}
				n.mu.Lock()
				dials := n.dials
				n.mu.Unlock()
				if dials != want {
					t.Errorf("%d dials, want %d", dials, want)
				}
				for _, s := range open {
					_ = s.Close()
				}
			})
		})
	}
}
