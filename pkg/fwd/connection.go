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

// lingerTime is how long the client may go on sending after the pod has ended
// the connection in good order. A socket that is closed with bytes unread
// resets, and the client could lose the end of the answer.
const lingerTime = 30 * time.Second

// connection is one client's connection. One goroutine has what comes from the
// pod, and looks for the pod first; another has what the client says.
type connection struct {
	engine   *Engine
	client   net.Conn
	at       netip.AddrPort
	accepted time.Time
	log      *logrus.Entry
	up       *upload

	route route         // at the last try
	to    destination   // of the last try
	met   bool          // a process may have seen the connection
	held  time.Duration // for how long it has waited for a pod
	vain  bool          // every pod that there was has failed

	answering atomic.Pointer[Stream] // the one that has answered
}

// run carries the connection until both sides have ended, and closes it. What
// breaks it off, the end of ctx too, resets the client and closes the stream;
// run returns the first such fault.
func (c *connection) run(ctx context.Context) error {
	ctx, breakOff := context.WithCancelCause(ctx)
	defer breakOff(nil)
	c.up = newUpload(c.client, c.engine.Gone, breakOff)
	counter := &c.route.common.counter // the route's is the same as long as its host is there
	counter.begin(c)
	defer counter.end(c)
	stop := onEnd(ctx, func() {
		reset(c.client)
		c.up.close()
	})
	var uploading sync.WaitGroup
	uploading.Go(func() { c.up.run(ctx) })
	if err := c.download(ctx); err != nil {
		breakOff(err)
	}
	uploading.Wait()
	stop()
	c.up.close()
	_ = c.client.Close()
	return context.Cause(ctx)
}

// download copies what the pod says to the client until the pod has ended the
// connection, which is the end of it: the runtime has then ended both halves.
func (c *connection) download(ctx context.Context) error {
	a, err := c.reach(ctx)
	if c.held > 0 {
		c.engine.meter().Held(c.held)
	}
	if err != nil {
		return err
	}
	c.answering.Store(&a.stream)
	if len(a.begin) > 0 {
		c.engine.meter().Answered(time.Since(c.accepted))
	}
	release := sync.OnceFunc(a.release)
	defer release()
	c.met = true
	if c.route.works(c.to.past) {
		c.engine.poke()
	}
	c.log.Debugf("%v goes to pod %v", c.client.RemoteAddr(), c.to.Pod)
	if err := c.copyDown(a); err != nil {
		c.up.awaitDelivery(ctx)
		return err
	}
	close(c.up.over)
	release() // before the client goes on: the next connection may have its place
	_ = c.client.SetReadDeadline(time.Now().Add(lingerTime))
	closeWrite(c.client)
	return nil
}

// copyDown copies the answer to the client until its orderly end.
func (c *connection) copyDown(a answer) error {
	if _, err := c.client.Write(a.begin); err != nil {
		return err
	}
	err := a.err
	if err == nil {
		_, err = io.Copy(c.client, a.stream)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// onEnd has f run when ctx ends. The function that it returns calls that off,
// or waits for f.
func onEnd(ctx context.Context, f func()) (off func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		f()
	})
	return func() {
		if !stop() {
			<-done
		}
	}
}
