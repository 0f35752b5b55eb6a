// Package tunnel opens byte streams to ports of pods through the API server and
// the kubelet. It uses the port-forward subresource, whose protocol is SPDY/3.1
// with two streams for each connection (see KEP-4006).
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

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// Dialer opens streams to the pods of several clusters. It is a fwd.Dialer. Dial
// works only while Run is running.
type Dialer struct {
	clusterOf func(contextName string) (upstreamDialer, error)
	tasks     chan func(context.Context) // run by Run

	stalled atomic.Uint64

	mu    sync.Mutex
	pools map[plan.PodRef]*pool
}

// upstreamDialer makes connections to the pods of one cluster.
type upstreamDialer interface {
	// dial returns a fwd.UnreachedError, or ctx's cause if ctx ended.
	dial(ctx context.Context, pod plan.PodRef) (*upstream, error)
}

// New returns a Dialer that uses the given transport. It calls find, concurrently,
// for each new connection to an API server to look up the cluster of a context. If
// find returns another Config than before, new connections use that one.
func New(find func(contextName string) (Cluster, bool), with Transport) *Dialer {
	cache := clusterCache{find: find, with: with, byContext: make(map[string]*cluster)}
	return &Dialer{clusterOf: cache.get, tasks: make(chan func(context.Context)), pools: make(map[plan.PodRef]*pool)}
}

// clusterCache holds the latest cluster of each context.
type clusterCache struct {
	find func(contextName string) (Cluster, bool)
	with Transport

	mu        sync.Mutex
	byContext map[string]*cluster
}

// get returns the cluster of a context, and caches it until its Config changes.
func (c *clusterCache) get(contextName string) (upstreamDialer, error) {
	source, ok := c.find(contextName)
	if !ok {
		return nil, &fwd.UnreachedError{Reason: fwd.ClusterUnreachable, Err: fmt.Errorf("context %s no longer exists", contextName)}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if cached := c.byContext[contextName]; cached != nil && cached.source.Config == source.Config {
		return cached, nil
	}
	fresh, err := newCluster(source, c.with)
	if err != nil {
		return nil, &fwd.UnreachedError{Reason: fwd.ClusterUnreachable, Err: fmt.Errorf("context %s: %w", contextName, err)}
	}
	c.byContext[contextName] = fresh
	return fresh, nil
}

// Stalled returns the number of connections reset because their client didn't
// read while others waited. Any goroutine may call it.
func (d *Dialer) Stalled() uint64 { return d.stalled.Load() }

// Connections returns the number of connections to API servers. Any goroutine
// may call it.
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
	var running sync.WaitGroup
	running.Go(func() { d.checkLoop(ctx) })
	reap := time.NewTicker(reapInterval)
	defer reap.Stop()
	for {
		select {
		case <-ctx.Done():
			running.Wait()
			return nil
		case task := <-d.tasks:
			running.Go(func() { task(ctx) })
		case now := <-reap.C:
			d.reap(now)
		}
	}
}

// Dial opens a stream to a port of a pod. It doesn't wait for the pod: if nothing
// listens on the port, the stream's Read returns the error. ctx bounds the dial,
// not the stream.
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
				p.remove(u) // broken or exhausted
			}
			continue
		}
		leased := &leasedStream{stream: s, pool: p}
		if fresh || u.awaitReply(ctx) {
			return leased, nil
		}
		_ = leased.Close() // nothing was sent on it
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		p.pingIdle()
	}
}

// Check checks whether there is a connection to the pod, and dials one if not. The
// next stream uses it.
func (d *Dialer) Check(ctx context.Context, pod plan.PodRef) error {
	p := d.pool(pod)
	u, err := p.acquire(ctx)
	if err != nil {
		return err
	}
	p.release(u)
	return nil
}

// pool returns the pool of connections to a pod.
func (d *Dialer) pool(pod plan.PodRef) *pool {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, ok := d.pools[pod]
	if !ok {
		p = newPool(func(ctx context.Context) (*upstream, error) {
			c, err := d.clusterOf(pod.Context)
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
	p.lastUsed = time.Now() // keeps reap from deleting the pool before its first use
	return p
}

// checkLoop checks all connections periodically until ctx ends. One ticker serves
// all of them, because wake-ups are the main cost of an idle program.
func (d *Dialer) checkLoop(ctx context.Context) {
	ticker := time.NewTicker(upstreamCheckInterval)
	defer ticker.Stop()
	var checks sync.WaitGroup
	defer checks.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		d.mu.Lock()
		pools := slices.Collect(maps.Values(d.pools))
		d.mu.Unlock()
		for _, p := range pools {
			p.check(ctx, &checks)
		}
	}
}

// reap closes idle connections and deletes unused pools.
func (d *Dialer) reap(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for pod, p := range d.pools {
		if p.reap(now) {
			delete(d.pools, pod)
		}
	}
}

// leasedStream is a stream that returns its upstream to the pool when closed.
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
