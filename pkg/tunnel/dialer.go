// Package tunnel opens byte streams to ports of pods, through the API server
// and the kubelet: the port-forward subresource (KEP-4006 describes the
// protocol, which is SPDY/3.1 with two streams for each connection).
package tunnel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// Dialer opens streams to the pods of some clusters. It is a fwd.Dialer. Dial
// works as long as Run runs.
type Dialer struct {
	clusters map[string]upgrader
	work     chan func(context.Context) // for Run to run

	stalled atomic.Uint64

	mu    sync.Mutex
	pools map[fwd.PodRef]*pool
}

// upgrader makes connections to the pods of one cluster.
type upgrader interface {
	// dial's errors are fwd.UnreachedError, but for the end of ctx, which is
	// its cause.
	dial(ctx context.Context, pod fwd.PodRef) (*upstream, error)
}

// New returns a dialer for the clusters given, by the name of their context,
// that uses the transport given.
func New(clusters map[string]Cluster, with Transport) (*Dialer, error) {
	d := &Dialer{
		clusters: make(map[string]upgrader, len(clusters)),
		work:     make(chan func(context.Context)),
		pools:    make(map[fwd.PodRef]*pool),
	}
	for name, of := range clusters {
		c, err := newCluster(of, with)
		if err != nil {
			return nil, fmt.Errorf("context %s: %w", name, err)
		}
		d.clusters[name] = c
	}
	return d, nil
}

// Stalled returns how many connections were reset so far as their clients didn't
// read while others waited. Anyone may call it at any time.
func (d *Dialer) Stalled() uint64 { return d.stalled.Load() }

// Run runs the connections to the API servers until ctx ends, and then closes
// them. It must be called once.
func (d *Dialer) Run(ctx context.Context) error {
	var running errgroup.Group
	reap := time.NewTicker(reapEvery)
	defer reap.Stop()
	for {
		select {
		case <-ctx.Done():
			return running.Wait()
		case work := <-d.work:
			running.Go(func() error {
				work(ctx)
				return nil
			})
		case now := <-reap.C:
			d.reap(now)
		}
	}
}

// Dial opens a stream to a port of a pod. It returns before the pod was asked:
// that nothing listens there is what Read then says. ctx bounds the dial, not
// the stream.
func (d *Dialer) Dial(ctx context.Context, pod fwd.PodRef, port uint16) (fwd.Stream, error) {
	c, ok := d.clusters[pod.Context]
	if !ok {
		return nil, fmt.Errorf("no cluster of the context %s", pod.Context)
	}
	p := d.pool(pod, c)
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		u, err := p.get(ctx)
		if err != nil {
			return nil, err
		}
		fresh := u.pulse.fresh()
		s, err := u.open(port)
		if err != nil {
			p.put(u)
			if !errors.Is(err, errUpstreamFull) {
				p.remove(u) // it has ended, or had all the streams that it can have
			}
			continue
		}
		l := &leased{stream: s, pool: p}
		if fresh || u.answers(ctx) {
			return l, nil
		}
		_ = l.Close() // nothing was sent on it
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		p.ask()
	}
}

// pool returns the pool of a pod's connections.
func (d *Dialer) pool(pod fwd.PodRef, c upgrader) *pool {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, ok := d.pools[pod]
	if !ok {
		p = newPool(func(ctx context.Context) (*upstream, error) { return c.dial(ctx, pod) }, d.work)
		p.stalled = &d.stalled
		d.pools[pod] = p
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used = time.Now() // it is not reaped before it is used
	return p
}

// reap closes what was not used for long.
func (d *Dialer) reap(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for pod, p := range d.pools {
		if p.reap(now) {
			delete(d.pools, pod)
		}
	}
}

// leased is a stream whose upstream goes back to the pool when it is closed.
type leased struct {
	*stream
	pool *pool
	once sync.Once
}

// Close ends the stream at once.
func (l *leased) Close() error {
	err := l.stream.Close()
	l.once.Do(func() {
		if n, _ := l.Received(); n > 0 {
			l.pool.worked()
		}
		l.pool.put(l.up)
	})
	return err
}
