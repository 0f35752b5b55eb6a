// Package tunnel opens byte streams to ports of pods, through the API server
// and the kubelet: the port-forward subresource (KEP-4006 describes the
// protocol, which is SPDY/3.1 with two streams for each connection).
package tunnel

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// Dialer opens streams to the pods of some clusters. It is a fwd.Dialer. Dial
// works as long as Run runs.
type Dialer struct {
	find  func(context string) (upstreamDialer, error)
	tasks chan func(context.Context) // for Run to run

	stalled atomic.Uint64

	mu    sync.Mutex
	pools map[plan.PodRef]*pool
}

// upstreamDialer makes connections to the pods of one cluster.
type upstreamDialer interface {
	// dial's errors are fwd.UnreachedError, but for the end of ctx, which is
	// its cause.
	dial(ctx context.Context, pod plan.PodRef) (*upstream, error)
}

// New returns a dialer that uses the transport given. find says how a context's
// cluster is reached; it is asked for each new connection to an API server, by
// several goroutines at once. Another Config than the last one is a change: new
// connections then go there.
func New(find func(context string) (Cluster, bool), with Transport) *Dialer {
	known := clusterCache{find: find, with: with, byContext: make(map[string]*cluster)}
	return &Dialer{find: known.get, tasks: make(chan func(context.Context)), pools: make(map[plan.PodRef]*pool)}
}

// clusterCache has the cluster of each context as it last was.
type clusterCache struct {
	find func(context string) (Cluster, bool)
	with Transport

	mu        sync.Mutex
	byContext map[string]*cluster
}

func (c *clusterCache) get(context string) (upstreamDialer, error) {
	of, ok := c.find(context)
	if !ok {
		return nil, &fwd.UnreachedError{Reason: fwd.ClusterUnreachable, Err: fmt.Errorf("context %s is not known any more", context)}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.byContext[context]; known != nil && known.source.Config == of.Config {
		return known, nil
	}
	fresh, err := newCluster(of, c.with)
	if err != nil {
		return nil, &fwd.UnreachedError{Reason: fwd.ClusterUnreachable, Err: fmt.Errorf("context %s: %w", context, err)}
	}
	c.byContext[context] = fresh
	return fresh, nil
}

// Stalled returns how many connections were reset so far as their clients didn't
// read while others waited. Anyone may call it at any time.
func (d *Dialer) Stalled() uint64 { return d.stalled.Load() }

// Connections returns how many connections to API servers there are. Anyone may call it
// at any time.
func (d *Dialer) Connections() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.pools {
		p.mu.Lock()
		n += len(p.upstreams)
		p.mu.Unlock()
	}
	return n
}

// Run runs the connections to the API servers until ctx ends, and then closes
// them. It must be called once.
func (d *Dialer) Run(ctx context.Context) error {
	var running errgroup.Group
	running.Go(func() error {
		d.checkLoop(ctx)
		return nil
	})
	reap := time.NewTicker(reapInterval)
	defer reap.Stop()
	for {
		select {
		case <-ctx.Done():
			return running.Wait()
		case work := <-d.tasks:
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
func (d *Dialer) Dial(ctx context.Context, pod plan.PodRef, port uint16) (fwd.Stream, error) {
	p := d.pool(pod)
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		u, err := p.acquire(ctx)
		if err != nil {
			return nil, err
		}
		fresh := u.liveness.fresh()
		s, err := u.open(port)
		if err != nil {
			p.release(u)
			if !errors.Is(err, errUpstreamFull) {
				p.remove(u) // it has ended, or had all the streams that it can have
			}
			continue
		}
		l := &leasedStream{stream: s, pool: p}
		if fresh || u.awaitReply(ctx) {
			return l, nil
		}
		_ = l.Close() // nothing was sent on it
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		p.pingIdle()
	}
}

// pool returns the pool of a pod's connections.
func (d *Dialer) pool(pod plan.PodRef) *pool {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, ok := d.pools[pod]
	if !ok {
		p = newPool(func(ctx context.Context) (*upstream, error) {
			c, err := d.find(pod.Context)
			if err != nil {
				return nil, err
			}
			return c.dial(ctx, pod)
		}, d.tasks)
		p.stalled = &d.stalled
		d.pools[pod] = p
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastUsed = time.Now() // it is not reaped before it is used
	return p
}

// checkLoop looks after all connections, until ctx ends. It does so for all of them
// at once: what costs an idle program is to be woken.
func (d *Dialer) checkLoop(ctx context.Context) {
	every := time.NewTicker(upstreamCheckInterval)
	defer every.Stop()
	var checks sync.WaitGroup
	defer checks.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		d.mu.Lock()
		pools := slices.Collect(maps.Values(d.pools))
		d.mu.Unlock()
		for _, p := range pools {
			p.check(ctx, &checks)
		}
	}
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

// leasedStream is a stream whose upstream goes back to the pool when it is closed.
type leasedStream struct {
	*stream
	pool *pool
	once sync.Once
}

// Close ends the stream at once.
func (l *leasedStream) Close() error {
	err := l.stream.Close()
	l.once.Do(func() {
		if n, _ := l.Received(); n > 0 {
			l.pool.recordSuccess()
		}
		l.pool.release(l.up)
	})
	return err
}
