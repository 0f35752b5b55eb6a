package tunnel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubeshore/kubeshore/internal/backoff"
	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// mute returns an upstream whose other side reads everything and sends nothing.
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

// poolOf returns a pool of upstreams, each with the given number of streams.
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

// A waiting stream that missed both a failed dial and a later successful one keeps
// waiting, because the new connection may be busy only for a moment.
func TestAcquireWaitsAfterFailedAndSuccessfulDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := mute(t)
		p := poolOf(0)
		got := make(chan error, 1)
		go func() {
			u, err := p.acquire(t.Context())
			if u != busy {
				err = errors.Join(err, errors.New("got another connection than the one dialed"))
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

// Connections that are blocked by their clients don't count: another one is
// dialed, however many of them there are.
func TestBlockedConnectionsDontPreventDials(t *testing.T) {
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
		<-start // the dial
		cancel()
		<-ended
	})
}

// Idle connections are closed, except a spare, also while other connections to the
// pod are in use.
func TestReapLeavesASpare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		used, idle := mute(t), []*upstream{mute(t), mute(t), mute(t)}
		p := poolOf(0, idle...)
		p.upstreams[used], p.lastUsed = 1, time.Now()
		if p.reap(time.Now().Add(24 * time.Hour)) {
			t.Error("got a deleted pool, want it kept while in use")
		}
		open := 0
		for _, u := range idle {
			if u.alive() {
				open++
			}
		}
		if open != 1 || !used.alive() {
			t.Errorf("got %d idle connections and used one alive: %v, want 1 and true", open, used.alive())
		}
	})
}

// A server that sends PINGs but reads no replies loses its connection.
func TestPingFloodEndsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		u := newUpstream(ours, nil)
		ended := make(chan error, 1)
		go func() { ended <- u.read() }()
		u.writeMu.Lock() // like a blocked upload
		flood := bytes.Repeat(appendPing(nil, 2), maxQueuedControl)
		_, _ = theirs.Write(flood)
		if err := <-ended; !errors.Is(err, errProtocol) && !strings.Contains(u.err.Error(), "replies") {
			t.Errorf("got error %v, want %v", err, errProtocol)
		}
		_ = theirs.Close()
	})
}

// Data after the end of its stream is a protocol violation, not an orderly end.
func TestDataAfterEndBreaksUpstream(t *testing.T) {
	u := newUpstream(readerConn{from: bytes.NewReader(appendDataHeader(append(appendDataHeader(nil, 3, flagFin, 2), "ab"...), 3, 0, 2))}, nil)
	s, err := u.open(80)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.read(); !errors.Is(err, errProtocol) {
		t.Errorf("got error %v, want %v", err, errProtocol)
	}
	if _, err := io.ReadAll(s); err == nil {
		t.Error("got an orderly end of the stream, want an error")
	}
}

// A slow upload doesn't count as silence, although the reply to the PING is queued
// behind it.
func TestSlowUploadIsNotSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := mute(t)
		s, err := u.open(80)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write(make([]byte, 900<<10)); err != nil {
			t.Fatal(err)
		}
		<-time.After(30 * time.Second) // virtual
		u.check(time.Now())
		if !u.alive() {
			t.Error("got a broken upstream 30s after 900 KiB were sent, want it alive")
		}
		<-time.After(5 * time.Minute)
		u.check(time.Now())
		if u.alive() {
			t.Error("got a live upstream without any reply, want it broken")
		}
	})
}

// After a fast transfer, small replies are read without delay again.
func TestSmallReadsAfterFastTransfer(t *testing.T) {
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
		t.Error("got fast mode after small reads, want it off")
	}
}

// An error that other dials wouldn't avoid is returned at once until the next dial.
func TestDenialIsReturnedAtOnce(t *testing.T) {
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
			t.Errorf("got %v after %v, want %v at once", err, time.Since(begin), denied)
		}
	})
}

// Streams that start at the same time get a connection each, unless dials are slow
// and they can share one.
func TestBurstGetsConnectionEach(t *testing.T) {
	const size = 8
	for name, c := range map[string]struct {
		takes  time.Duration // per dial
		warm   bool
		shares bool
		want   time.Duration // of the slowest stream
	}{
		"cold":              {takes: 10 * time.Millisecond, want: 10 * time.Millisecond},
		"cold and far away": {takes: 200 * time.Millisecond, want: 200 * time.Millisecond},
		"warm":              {takes: 10 * time.Millisecond, warm: true, want: 10 * time.Millisecond},
		"warm and far away": {takes: 200 * time.Millisecond, warm: true, shares: true},
	} {
		t.Run(name, func(t *testing.T) {
			withNetwork(t, func(t *testing.T, d *Dialer, n *fakeNetwork) {
				n.takes = c.takes
				if c.warm {
					first, _ := dialGreeted(t, d)
					<-time.After(2 * time.Second) // until there is a spare
					defer first.Close()
				}
				var mu sync.Mutex
				var slowest time.Duration
				used := make(map[*upstream]bool)
				open := make([]fwd.Stream, 0, size)
				var burst sync.WaitGroup
				for range size {
					burst.Go(func() {
						s, took := dialGreeted(t, d)
						mu.Lock()
						defer mu.Unlock()
						slowest, open = max(slowest, took), append(open, s)
						used[s.(*leasedStream).up] = true
					})
				}
				burst.Wait()
				if slowest > c.want || (len(used) < size) != c.shares {
					t.Errorf("got %d connections, the slowest stream after %v; want shared: %v, at most %v", len(used), slowest, c.shares, c.want)
				}
				<-time.After(2 * time.Second)
				want := size + 1 // including a spare
				if c.warm {
					want++
				}
				n.mu.Lock()
				dials := n.dials
				n.mu.Unlock()
				if dials != want {
					t.Errorf("got %d dials, want %d", dials, want)
				}
				for _, s := range open {
					_ = s.Close()
				}
			})
		})
	}
}

// While dials fail, only one is under way, no matter how many clients there are.
func TestFailingDialsAreNoStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var dials, underWay, most atomic.Int32
		var failed atomic.Bool
		tasks := make(chan func(context.Context))
		p := newPool(func(context.Context) (*upstream, error) {
			dials.Add(1)
			if n := underWay.Add(1); failed.Load() && n > most.Load() {
				most.Store(n)
			}
			defer underWay.Add(-1)
			<-time.After(10 * time.Millisecond)
			failed.Store(true)
			return nil, &fwd.UnreachedError{Reason: fwd.Denied, Err: errors.New("denied by a policy")}
		}, tasks)
		var running sync.WaitGroup
		running.Go(func() {
			for {
				select {
				case task := <-tasks:
					running.Go(func() { task(ctx) })
				case <-ctx.Done():
					return
				}
			}
		})
		for range 100 {
			running.Go(func() {
				for ctx.Err() == nil {
					if _, err := p.acquire(ctx); err == nil {
						t.Error("got a connection")
					}
					_ = backoff.Sleep(ctx, 100*time.Millisecond)
				}
			})
		}
		running.Wait()
		if got := most.Load(); got > 1 {
			t.Errorf("got %d dials at once after the first failures, want 1", got)
		}
		if got := dials.Load(); got > 60 {
			t.Errorf("got %d dials in 10s, want at most 60", got)
		}
	})
}
