package tunnel

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// fakeNetwork is an API server and the network to it. setSilent loses all bytes sent
// on the existing connections.
type fakeNetwork struct {
	mu     sync.Mutex
	silent map[net.Conn]bool
	conns  []net.Conn
	down   bool
	takes  time.Duration // duration of a dial
	held   chan struct{} // delays replies until closed; nil for no delay
	dials  int
}

func (n *fakeNetwork) setSilent() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		n.silent[c] = true
	}
}

func (n *fakeNetwork) dial(context.Context, plan.PodRef) (*upstream, error) {
	<-time.After(n.takes)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dials++
	if n.down {
		return nil, &fwd.UnreachedError{Reason: fwd.ClusterUnreachable, Err: errors.New("down")}
	}
	ours, theirs := net.Pipe()
	n.conns = append(n.conns, theirs)
	go n.serve(theirs)
	return newUpstream(ours, nil), nil
}

// serve answers each PING, and sends a greeting on each stream.
func (n *fakeNetwork) serve(conn net.Conn) {
	var replies sync.WaitGroup
	defer replies.Wait()
	defer conn.Close()
	for {
		var header [frameHeaderSize]byte
		if _, err := io.ReadFull(conn, header[:]); err != nil {
			return
		}
		h, err := parseFrameHeader(&header)
		if err != nil {
			return
		}
		body := make([]byte, h.length)
		if _, err := io.ReadFull(conn, body); err != nil {
			return
		}
		n.mu.Lock()
		silent, held := n.silent[conn], n.held
		n.mu.Unlock()
		var reply []byte
		switch {
		case silent || !h.control:
		case h.kind == typePing:
			reply = appendPing(nil, binary.BigEndian.Uint32(body))
		case h.kind == typeSynStream && h.flags&flagFin != 0: // an error stream
			reply = appendControl(nil, typeSynReply, 0, body[:4]...)
		case h.kind == typeSynStream: // a data stream
			reply = append(appendDataHeader(nil, binary.BigEndian.Uint32(body), 0, 5), "hello"...)
		}
		replies.Go(func() {
			if held != nil {
				<-held
			}
			if len(reply) > 0 {
				_, _ = conn.Write(reply) // on an error, the next read fails, too
			}
		})
	}
}

// withNetwork runs a test with a Dialer and its network in a synctest bubble.
func withNetwork(t *testing.T, run func(t *testing.T, d *Dialer, n *fakeNetwork)) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNetwork{silent: make(map[net.Conn]bool)}
		d := &Dialer{tasks: make(chan func(context.Context)), clusterOf: func(string) (upstreamDialer, error) { return n, nil }, pools: make(map[plan.PodRef]*pool)}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = d.Run(ctx)
		}()
		run(t, d, n)
		cancel()
		<-ended
	})
}

// dialGreeted opens a stream and reads its greeting. It returns how long that took.
func dialGreeted(t *testing.T, d *Dialer) (fwd.Stream, time.Duration) {
	t.Helper()
	begin := time.Now()
	s, err := d.Dial(t.Context(), plan.PodRef{}, 80)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(s, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	return s, time.Since(begin)
}

// Idle connections are pinged and stay open.
func TestIdleConnectionsStayOpen(t *testing.T) {
	withNetwork(t, func(t *testing.T, d *Dialer, n *fakeNetwork) {
		s, _ := dialGreeted(t, d)
		<-time.After(5*time.Minute + 500*time.Millisecond) // virtual
		if _, err := s.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		_ = s.Close()
		second, took := dialGreeted(t, d)
		_ = second.Close()
		if took > 0 || n.dials != 2 { // including the spare
			t.Errorf("got the next stream after %v and %d dials, want 0s and 2 dials", took, n.dials)
		}
	})
}

// After a change of networks, new streams work within seconds, and the dead
// connections are closed.
func TestSilenceIsDetected(t *testing.T) {
	for name, asleep := range map[string]time.Duration{"while awake": 0, "asleep": 3 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			withNetwork(t, func(t *testing.T, d *Dialer, n *fakeNetwork) {
				old, _ := dialGreeted(t, d)
				defer old.Close()
				n.setSilent()
				synctest.Wait()
				for u := range d.pools[plan.PodRef{}].upstreams { // timers stop while a machine sleeps
					u.liveness.mu.Lock()
					u.liveness.lastHeard = u.liveness.lastHeard.Add(-asleep)
					u.liveness.mu.Unlock()
				}
				broken := make(chan time.Duration, 1)
				begin := time.Now()
				go func() {
					_, err := old.Read(make([]byte, 1))
					if err == nil || errors.Is(err, io.EOF) {
						t.Errorf("got %v from the dead stream, want an error other than io.EOF", err)
					}
					broken <- time.Since(begin)
				}()
				for {
					s, err := d.Dial(t.Context(), plan.PodRef{}, 80)
					if err != nil {
						t.Fatal(err)
					}
					_, err = io.ReadFull(s, make([]byte, 5))
					_ = s.Close()
					var unreached *fwd.UnreachedError
					if err == nil {
						break
					}
					if !errors.As(err, &unreached) { // no bytes were sent on it
						t.Fatal(err)
					}
				}
				if took := time.Since(begin); took > 7*time.Second || asleep > 0 && took > 2*time.Second {
					t.Errorf("got a new stream after %v, want at most 7s, or 2s after sleep", took)
				}
				if took := <-broken; took > 15*time.Second {
					t.Errorf("got the dead stream closed after %v, want at most 15s", took)
				}
			})
		})
	}
}

// While the API server can't be reached at all, connections are kept, because the
// network may come back.
func TestShortOutageKeepsConnections(t *testing.T) {
	withNetwork(t, func(t *testing.T, d *Dialer, n *fakeNetwork) {
		s, _ := dialGreeted(t, d)
		defer s.Close()
		synctest.Wait()
		n.mu.Lock()
		n.down, n.held = true, make(chan struct{})
		n.mu.Unlock()
		<-time.After(20 * time.Second) // virtual
		n.mu.Lock()
		close(n.held)
		n.down, n.held = false, nil
		n.mu.Unlock()
		<-time.After(time.Minute) // virtual
		if _, err := s.Write([]byte("x")); err != nil {
			t.Error(err)
		}
	})
}

// Dials of an unreachable API server back off.
func TestDialsBackOff(t *testing.T) {
	withNetwork(t, func(t *testing.T, d *Dialer, n *fakeNetwork) {
		n.down = true
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		for ctx.Err() == nil {
			if s, err := d.Dial(ctx, plan.PodRef{}, 80); err == nil {
				_ = s.Close()
				t.Fatal("got a stream, want an error")
			}
		}
		if n.dials < 100 || n.dials > 1500 {
			t.Errorf("got %d dials in ten minutes, want 100 to 1500", n.dials)
		}
		n.mu.Lock()
		n.down = false
		n.mu.Unlock()
		s, took := dialGreeted(t, d)
		_ = s.Close()
		if took > maxClientDelay {
			t.Errorf("got a stream %v after the end of the outage, want at most %v", took, maxClientDelay)
		}
	})
}
