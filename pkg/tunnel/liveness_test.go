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

// network is an API server and the way to it. It can go silent: what is sent is
// lost then, for the connections that are there.
type network struct {
	mu     sync.Mutex
	silent map[net.Conn]bool
	conns  []net.Conn
	down   bool
	takes  time.Duration // a dial
	held   chan struct{} // what is sent arrives when it is closed; nil: at once
	dials  int
}

func (n *network) setSilent() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		n.silent[c] = true
	}
}

func (n *network) dial(context.Context, plan.PodRef) (*upstream, error) {
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

// serve answers every PING, and every stream with a greeting.
func (n *network) serve(conn net.Conn) {
	var answers sync.WaitGroup
	defer answers.Wait()
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
		var answer []byte
		switch {
		case silent || !h.control:
		case h.kind == typePing:
			answer = appendPing(nil, binary.BigEndian.Uint32(body))
		case h.kind == typeSynStream && h.flags&flagFin != 0: // an error stream
			answer = appendControl(nil, typeSynReply, 0, body[:4]...)
		case h.kind == typeSynStream: // a data stream
			answer = append(appendDataHeader(nil, binary.BigEndian.Uint32(body), 0, 5), "hello"...)
		}
		answers.Go(func() {
			if held != nil {
				<-held
			}
			if len(answer) > 0 {
				_, _ = conn.Write(answer) // if it has ended, the next read says so
			}
		})
	}
}

// dialing runs a dialer over a network, in a bubble of synctest.
func dialing(t *testing.T, run func(t *testing.T, d *Dialer, n *network)) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{silent: make(map[net.Conn]bool)}
		d := &Dialer{tasks: make(chan func(context.Context)), find: func(string) (upstreamDialer, error) { return n, nil }, pools: make(map[plan.PodRef]*pool)}
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

// greeted opens a stream and reads its greeting; it returns how long that took.
func greeted(t *testing.T, d *Dialer) (fwd.Stream, time.Duration) {
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

// An idle connection is asked for a sign of life, and lives on.
func TestIdleConnectionsLive(t *testing.T) {
	dialing(t, func(t *testing.T, d *Dialer, n *network) {
		s, _ := greeted(t, d)
		<-time.After(5*time.Minute + 500*time.Millisecond) // of the bubble
		if _, err := s.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		_ = s.Close()
		second, took := greeted(t, d)
		_ = second.Close()
		if took > 0 || n.dials != 2 { // the first and the spare
			t.Errorf("the next stream took %v, %d dials", took, n.dials)
		}
	})
}

// After the network has changed, new connections work within moments, and the
// dead ones are closed.
func TestSilenceIsNoticed(t *testing.T) {
	for name, asleep := range map[string]time.Duration{"while awake": 0, "asleep": 3 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			dialing(t, func(t *testing.T, d *Dialer, n *network) {
				old, _ := greeted(t, d)
				defer old.Close()
				n.setSilent()
				synctest.Wait()
				for u := range d.pools[plan.PodRef{}].upstreams { // a sleeping machine's timers stand still
					u.liveness.mu.Lock()
					u.liveness.lastHeard = u.liveness.lastHeard.Add(-asleep)
					u.liveness.mu.Unlock()
				}
				broken := make(chan time.Duration, 1)
				begin := time.Now()
				go func() {
					_, err := old.Read(make([]byte, 1))
					if err == nil || errors.Is(err, io.EOF) {
						t.Errorf("the dead stream's Read says %v", err)
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
					if !errors.As(err, &unreached) { // nothing was said on it
						t.Fatal(err)
					}
				}
				if took := time.Since(begin); took > 7*time.Second || asleep > 0 && took > 2*time.Second {
					t.Errorf("a new stream took %v", took)
				}
				if took := <-broken; took > 15*time.Second {
					t.Errorf("the dead one was closed after %v", took)
				}
			})
		})
	}
}

// As long as nothing can be reached at all, connections are given the time
// that a network may need to come back.
func TestShortOutageBreaksNothing(t *testing.T) {
	dialing(t, func(t *testing.T, d *Dialer, n *network) {
		s, _ := greeted(t, d)
		defer s.Close()
		synctest.Wait()
		n.mu.Lock()
		n.down, n.held = true, make(chan struct{})
		n.mu.Unlock()
		<-time.After(20 * time.Second) // of the bubble
		n.mu.Lock()
		close(n.held)
		n.down, n.held = false, nil
		n.mu.Unlock()
		<-time.After(time.Minute) // of the bubble
		if _, err := s.Write([]byte("x")); err != nil {
			t.Error(err)
		}
	})
}

// A server that can't be reached is not dialled without end.
func TestDialsBackOff(t *testing.T) {
	dialing(t, func(t *testing.T, d *Dialer, n *network) {
		n.down = true
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		for ctx.Err() == nil {
			if s, err := d.Dial(ctx, plan.PodRef{}, 80); err == nil {
				_ = s.Close()
				t.Fatal("it was reached")
			}
		}
		if n.dials < 100 || n.dials > 1500 {
			t.Errorf("%d dials in ten minutes", n.dials)
		}
		n.mu.Lock()
		n.down = false
		n.mu.Unlock()
		s, took := greeted(t, d)
		_ = s.Close()
		if took > maxClientDelay {
			t.Errorf("once it is back, the next stream took %v", took)
		}
	})
}
