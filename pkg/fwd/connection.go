package fwd

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
)

// lingerTimeout is how long the client may continue to send after the pod has
// ended the connection. A socket that is closed with unread bytes resets, and
// the client could lose the end of the response.
const lingerTimeout = 30 * time.Second

// connection is one client's connection. One goroutine looks for a pod and then
// copies from it to the client; another copies from the client to the pod.
type connection struct {
	engine   *Engine
	client   net.Conn
	at       netip.AddrPort // local address, chosen by the client
	accepted time.Time
	log      *logrus.Entry
	upload   *upload

	// Of the current or last attempt:
	route route
	dest  destination

	reachedPod bool          // a process may have received bytes
	held       time.Duration // time spent waiting for a pod
	exhausted  bool          // every candidate failed

	stream atomic.Pointer[Stream] // set once a pod has answered
}

// run forwards the connection until both sides have ended, and closes it. An
// error of either side, or the end of ctx, resets the client and closes the
// stream. run returns the first such error.
func (c *connection) run(ctx context.Context) error {
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	c.upload = newUpload(c.client, c.engine.ClientGone, abort)
	traffic := &c.route.hostState.counter // stays the same while the host exists
	traffic.begin(c)
	defer traffic.end(c)
	stop := onDone(ctx, func() {
		reset(c.client)
		c.upload.close()
	})
	var uploading sync.WaitGroup
	uploading.Go(func() { c.upload.run(ctx) })
	if err := c.download(ctx); err != nil {
		abort(err)
	}
	uploading.Wait()
	stop()
	c.upload.close()
	_ = c.client.Close()
	return context.Cause(ctx)
}

// download copies from the pod to the client. The connection ends with it: when
// the pod ends its half, the container runtime has ended the other one, too.
func (c *connection) download(ctx context.Context) error {
	r, err := c.reach(ctx)
	if c.held > 0 {
		c.engine.meter().Held(c.held)
	}
	if err != nil {
		return err
	}
	c.stream.Store(&r.stream)
	if len(r.first) > 0 {
		c.engine.meter().FirstByte(time.Since(c.accepted))
	}
	release := sync.OnceFunc(r.release)
	defer release()
	c.reachedPod = true
	if c.route.recordSuccess(c.dest.state) {
		c.engine.requestReplan()
	}
	c.log.Debugf("%v → pod %v", c.client.RemoteAddr(), c.dest.Pod)
	if err := c.copyDown(r); err != nil {
		c.upload.awaitDelivery(ctx)
		return err
	}
	close(c.upload.podDone)
	release() // before the client continues: its next connection may need the slot
	_ = c.client.SetReadDeadline(time.Now().Add(lingerTimeout))
	closeWrite(c.client)
	return nil
}

// copyDown copies the response to the client until its orderly end.
func (c *connection) copyDown(r answeredStream) error {
	if _, err := c.client.Write(r.first); err != nil {
		return clientError(err)
	}
	err := r.err
	if err == nil {
		_, err = io.Copy(c.client, r.stream)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// onDone calls f when ctx ends. The returned function prevents that, or waits
// until f has returned.
func onDone(ctx context.Context, f func()) (stop func()) {
	done := make(chan struct{})
	stopAfter := context.AfterFunc(ctx, func() {
		defer close(done)
		f()
	})
	return func() {
		if !stopAfter() {
			<-done
		}
	}
}

// bytes returns the bytes of the connection so far.
func (c *connection) bytes() Traffic {
	t := Traffic{BytesUp: c.upload.bytesIn.Load()}
	if stream := c.stream.Load(); stream != nil {
		n, _ := (*stream).Received()
		t.BytesDown = uint64(max(n, 0))
	}
	return t
}
