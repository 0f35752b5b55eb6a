package tunnel

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubeshore/kubeshore/internal/wake"
)

const (
	// controlWriteTimeout bounds the write of a frame that carries no bytes of a
	// client. If it doesn't do, the server has not read for so long.
	controlWriteTimeout = 5 * time.Second
	// maxQueuedControl bounds the control frames that wait to be written.
	maxQueuedControl = 64 << 10
)

var (
	// errUpstreamClosed is what streams get whose connection was closed by us.
	errUpstreamClosed = errors.New("the connection to the API server was closed")
	// errUpstreamLost is what they get if the server closed it.
	errUpstreamLost = errors.New("the API server closed the connection")
	// errUnresponsive is what they get if the server, or the way to it, is gone
	// without a word.
	errUnresponsive = errors.New("the API server doesn't answer any more")
	// errReset is what a stream gets that the server gave up by itself.
	errReset = errors.New("the API server reset the stream")
	// errNotStarted is what a stream gets that the server doesn't begin with.
	errNotStarted = errors.New("the API server doesn't begin with the stream")
	// errStuck is what they get if the server has stopped handling what is sent
	// to them.
	errStuck = errors.New("the API server doesn't handle the stream any more")
	// errUpstreamFull says that no stream can be opened on a connection now.
	errUpstreamFull = errors.New("a pod that doesn't read holds up the connection to the API server")
	// errUpstreamExhausted says that a connection has used up its stream numbers.
	errUpstreamExhausted = errors.New("the connection to the API server has had all the streams that it can have")
)

// upstream is one connection to a pod's port-forward endpoint, and the streams
// on it. Its methods may be called by several goroutines at once.
type upstream struct {
	conn      net.Conn
	bulk      *bulkConn      // below conn; may be nil
	readAhead bool           // conn's reads may end with errWouldBlock
	lastUsed  time.Time      // when it last was; by its pool's mu
	stalled   *atomic.Uint64 // counts streams whose client was given up
	liveness  liveness
	// carried says that a stream got an answer from the pod.
	gotData      atomic.Bool
	gotDataNoted bool // its pool has noted that; check's alone
	checking     atomic.Bool

	// writing is held over each write: frames go out whole, and streams are
	// opened in the order of their numbers.
	writeMu        timedMutex
	scratch        []byte
	headersStarted bool // a stream was, ever

	mu            sync.Mutex     // taken after a stream's mu, never before it
	freed         wake.Broadcast // a lane is not full any more, or a stream has ended
	minNextID     uint32         // of the next stream to be opened, the first of its two
	streams       map[uint32]*stream
	queues        [workers]workerQueue
	pingCount     uint32    // how many were sent, the server's that were sent back too
	ackedAt       time.Time // when the last of ours that was answered had been sent
	queuedControl []byte    // control frames for whoever writes next
	writerID      uint32    // the stream whose bytes are being written; 0 if none are
	writingSince  time.Time // when what is being written began to be; zero if nothing is
	kernelAcked   uint64    // bytes that the other side's kernel has taken
	draining      bool      // it takes no more streams
	err           error     // why it is broken; nil while it works
}

// newUpstream returns the upstream of a connection. bulk is what stands below
// its TLS; nil if that isn't known.
func newUpstream(conn net.Conn, bulk *bulkConn) *upstream {
	u := &upstream{conn: conn, bulk: bulk, writeMu: newTimedMutex(), minNextID: 1, streams: make(map[uint32]*stream), stalled: new(atomic.Uint64)}
	u.liveness.receive()
	return u
}

// open starts a stream to a port of the pod. Both of the streams that
// port-forward wants for a connection go out at once, and no reply is waited
// for: it says nothing of the pod. The error stream is half-closed from the
// first, as we have nothing to say on it. If something else is being written,
// and doesn't get on, there is no waiting for it.
func (u *upstream) open(port uint16) (*stream, error) {
	if !u.writeMu.tryLockFor(slowWriteTimeout) {
		return nil, errUpstreamFull
	}
	defer u.release()
	s, err := u.add()
	if err != nil {
		return nil, err
	}
	headers := http.Header{
		corev1.StreamType:                 {corev1.StreamTypeError},
		corev1.PortHeader:                 {strconv.Itoa(int(port))},
		corev1.PortForwardRequestIDHeader: {strconv.FormatUint(uint64(s.id), 10)},
	}
	u.scratch = appendSynStream(u.scratch[:0], s.errorID(), flagFin, headers, !u.headersStarted)
	u.headersStarted = true
	headers[corev1.StreamType] = []string{corev1.StreamTypeData}
	u.scratch = appendSynStream(u.scratch, s.id, 0, headers, false)
	u.liveness.expectReply()
	return s, u.write(u.scratch, controlWriteTimeout)
}

// add gives a new stream its numbers. Those that are there already must from
// now on not hold up the reading.
func (u *upstream) add() (*stream, error) {
	u.mu.Lock()
	switch {
	case u.err != nil:
		defer u.mu.Unlock()
		return nil, u.err
	case u.minNextID > maxStreamID-4*workers:
		defer u.mu.Unlock()
		return nil, errUpstreamExhausted
	}
	id, _, ok := u.nextIDLocked()
	if !ok {
		defer u.mu.Unlock()
		return nil, errUpstreamFull
	}
	s := newStream(u, id)
	u.minNextID = id + 2
	others := slices.Collect(maps.Values(u.streams))
	u.streams[s.id] = s
	u.noteSentLocked(s.errorID(), 0)
	u.noteSentLocked(s.id, 0)
	u.queues[queueOf(s.id)].streams++
	s.openedAt = time.Now()
	u.mu.Unlock()
	for _, other := range others {
		other.unblock()
	}
	return s, nil
}

// reset tells the server that a stream, which was removed, is of no interest
// any more. If the stream was alone and a write of its bytes can't get on, the
// word couldn't either: the upstream is closed then, which says it as well.
func (u *upstream) reset(s *stream) {
	u.mu.Lock()
	blocked := len(u.streams) == 0 && u.writerID == s.id
	u.draining = u.draining || blocked
	u.noteSentLocked(s.id, 0)
	u.noteSentLocked(s.errorID(), 0)
	u.mu.Unlock()
	if blocked {
		u.fail(errUpstreamClosed)
		return
	}
	u.sendControl(appendCancel(appendCancel(nil, s.id), s.errorID()))
}

// isShared tells whether other streams would suffer if one held the reading up.
func (u *upstream) isShared() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.streams) > 1
}

// sendData writes a frame of a stream's bytes, which stand in frame behind the
// room for the header; fin says that they are the last.
func (u *upstream) sendData(id uint32, frame []byte, fin bool) error {
	var flags byte
	if fin {
		flags = flagFin
	}
	appendDataHeader(frame[:0], id, flags, len(frame)-frameHeaderSize)
	if !u.admit(id, len(frame)) {
		return net.ErrClosed
	}
	defer u.release()
	return u.batch(func() error { return u.write(frame, 0) })
}

// batch calls write and sends what it writes at once, where that is possible.
func (u *upstream) batch(write func() error) error {
	if u.bulk == nil {
		return write()
	}
	err := u.bulk.batch(write)
	if err != nil {
		u.fail(fmt.Errorf("write to the API server: %w", err))
	}
	return err
}

// sendControl writes frames as soon as nothing else is being written. It
// doesn't wait for a write that is under way.
func (u *upstream) sendControl(frames []byte) {
	u.mu.Lock()
	u.queuedControl = append(u.queuedControl, frames...)
	flooded := len(u.queuedControl) > maxQueuedControl
	u.mu.Unlock()
	if flooded {
		u.fail(fmt.Errorf("%w: it asks for more answers than it takes", errProtocol))
		return
	}
	if u.writeMu.TryLock() {
		u.release()
	}
}

// release gives writing free, after the control frames that came meanwhile.
func (u *upstream) release() {
	for {
		u.mu.Lock()
		frames := u.queuedControl
		u.queuedControl, u.writerID, u.writingSince = nil, 0, time.Time{}
		u.mu.Unlock()
		if len(frames) > 0 {
			limit := controlWriteTimeout
			if u.unackedBytes() > 0 { // they may wait behind what a pod doesn't read
				limit = 0
			}
			_ = u.write(frames, limit) // a fault breaks the upstream, which tells all who use it
			continue
		}
		u.writeMu.Unlock()
		u.mu.Lock()
		more := len(u.queuedControl) > 0
		u.mu.Unlock()
		if !more || !u.writeMu.TryLock() {
			return
		}
	}
}

// write writes frames; writing must be held. An error breaks the upstream: the
// other side may have half a frame.
func (u *upstream) write(b []byte, limit time.Duration) error {
	u.mu.Lock()
	u.writingSince = time.Now()
	u.mu.Unlock()
	if limit > 0 {
		_ = u.conn.SetWriteDeadline(time.Now().Add(limit))
		defer func() { _ = u.conn.SetWriteDeadline(time.Time{}) }()
	}
	if _, err := u.conn.Write(b); err != nil {
		u.fail(fmt.Errorf("write to the API server: %w", err))
		return err
	}
	return nil
}

// fail breaks the upstream and all that is on it.
func (u *upstream) fail(err error) {
	u.mu.Lock()
	if u.err != nil {
		u.mu.Unlock()
		return
	}
	u.err = err
	streams := u.streams
	u.streams = make(map[uint32]*stream)
	u.freed.Fire()
	u.mu.Unlock()
	if u.bulk != nil {
		_ = u.bulk.Close() // below TLS, whose own farewell could take its time
	}
	_ = u.conn.Close() // it is of no more use either way
	for _, s := range streams {
		s.fail(err)
	}
}
