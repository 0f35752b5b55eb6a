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
	// controlWriteTimeout bounds the write of frames without client data. If it
	// expires, the server has stopped reading.
	controlWriteTimeout = 5 * time.Second
	// maxQueuedControl bounds the control frames waiting to be written, in bytes.
	maxQueuedControl = 64 << 10
)

// Errors of streams and of the upstream that they are on.
var (
	errUpstreamClosed    = errors.New("the connection to the API server was closed")
	errUpstreamLost      = errors.New("the API server closed the connection")
	errUnresponsive      = errors.New("the API server stopped responding")
	errReset             = errors.New("the API server reset the stream")
	errNotStarted        = errors.New("the API server didn't start the stream")
	errStuck             = errors.New("the API server stopped processing the stream")
	errUpstreamFull      = errors.New("the connection to the API server is blocked by a pod that doesn't read")
	errUpstreamExhausted = errors.New("the connection to the API server has no stream IDs left")
)

// upstream is a connection to a pod's port-forward endpoint, with the streams on
// it. Its methods may be called by several goroutines at once.
type upstream struct {
	conn         net.Conn
	bulk         *bulkConn      // below conn; may be nil
	readAhead    bool           // conn can be read again after errWouldBlock
	lastUsed     time.Time      // guarded by the pool's mu
	stalled      *atomic.Uint64 // counts streams reset because their client stalled
	liveness     liveness
	gotData      atomic.Bool // a stream got data from the pod
	gotDataNoted bool        // the pool knows about gotData; used by checkOne only
	checking     atomic.Bool // checkOne is running

	// writeMu is held during writes. It keeps frames intact, and streams in the
	// order of their IDs.
	writeMu        timedMutex
	scratch        []byte
	headersStarted bool // a SYN_STREAM was sent

	mu            sync.Mutex     // locked after a stream's mu, never before it
	freed         wake.Broadcast // fires when a queue may have room, or a stream has ended
	minNextID     uint32         // lower bound for the next stream; its error stream's ID
	streams       map[uint32]*stream
	queues        [workers]workerQueue
	pingCount     uint32    // PINGs sent, including replies to the server's
	ackedAt       time.Time // when the latest of our PINGs with a reply was sent
	queuedControl []byte    // control frames for the next writer to send
	writerID      uint32    // the stream whose data is being written; 0 if none
	writingSince  time.Time // start of the current write; zero if none
	kernelAcked   uint64    // bytes that the other side's kernel has acknowledged
	draining      bool      // no new streams
	err           error     // why the upstream broke; nil while it works
}

// newUpstream returns the upstream of a connection. bulk is the connection below
// TLS, or nil if unknown.
func newUpstream(conn net.Conn, bulk *bulkConn) *upstream {
	u := &upstream{conn: conn, bulk: bulk, writeMu: newTimedMutex(), minNextID: 1, streams: make(map[uint32]*stream), stalled: new(atomic.Uint64)}
	u.liveness.receive()
	return u
}

// open opens a stream to a port of the pod. It sends both streams that
// port-forward needs for a connection, and doesn't wait for the replies, which
// don't depend on the pod. The error stream is half-closed from the start,
// because nothing is sent on it. If another write blocks, open fails with
// errUpstreamFull.
func (u *upstream) open(port uint16) (*stream, error) {
	if !u.writeMu.tryLockFor(slowWriteTimeout) {
		return nil, errUpstreamFull
	}
	defer u.unlockWrite()
	s, err := u.addStream()
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
	return s, u.writeLocked(u.scratch, controlWriteTimeout)
}

// addStream adds a stream with the next usable IDs. The other streams must not
// block the reader from now on.
func (u *upstream) addStream() (*stream, error) {
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

// reset resets a removed stream. If a write of its data blocks, and no other
// streams are left, reset closes the upstream instead, because a RST_STREAM
// couldn't be sent.
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

// isShared reports whether there are several streams. One that blocks the reader
// would then hold up the others.
func (u *upstream) isShared() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.streams) > 1
}

// sendData writes a data frame. frame has room for the header before the data.
// fin ends the stream.
func (u *upstream) sendData(id uint32, frame []byte, fin bool) error {
	var flags byte
	if fin {
		flags = flagFin
	}
	appendDataHeader(frame[:0], id, flags, len(frame)-frameHeaderSize)
	if !u.admit(id, len(frame)) {
		return net.ErrClosed
	}
	defer u.unlockWrite()
	return u.batch(func() error { return u.writeLocked(frame, 0) })
}

// batch calls write and sends everything that it writes at once, if possible.
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

// sendControl writes control frames, or leaves them to the current writer. It
// doesn't wait for that one.
func (u *upstream) sendControl(frames []byte) {
	u.mu.Lock()
	u.queuedControl = append(u.queuedControl, frames...)
	flooded := len(u.queuedControl) > maxQueuedControl
	u.mu.Unlock()
	if flooded {
		u.fail(fmt.Errorf("%w: server requests replies faster than it reads them", errProtocol))
		return
	}
	if u.writeMu.TryLock() {
		u.unlockWrite()
	}
}

// unlockWrite writes the queued control frames and unlocks writeMu.
func (u *upstream) unlockWrite() {
	for {
		u.mu.Lock()
		queued := u.queuedControl
		u.queuedControl, u.writerID, u.writingSince = nil, 0, time.Time{}
		u.mu.Unlock()
		if len(queued) > 0 {
			timeout := controlWriteTimeout
			if u.unackedBytes() > 0 { // a pod that doesn't read may block the write
				timeout = 0
			}
			_ = u.writeLocked(queued, timeout) // an error breaks the upstream
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

// writeLocked writes frames within timeout; 0 means no timeout. An error breaks
// the upstream, because the server may have received part of a frame. writeMu
// must be held.
func (u *upstream) writeLocked(frames []byte, timeout time.Duration) error {
	u.mu.Lock()
	u.writingSince = time.Now()
	u.mu.Unlock()
	if timeout > 0 {
		_ = u.conn.SetWriteDeadline(time.Now().Add(timeout))
		defer func() { _ = u.conn.SetWriteDeadline(time.Time{}) }()
	}
	if _, err := u.conn.Write(frames); err != nil {
		u.fail(fmt.Errorf("write to the API server: %w", err))
		return err
	}
	return nil
}

// fail breaks the upstream and all its streams.
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
		_ = u.bulk.Close() // first, because closing TLS may block
	}
	_ = u.conn.Close() // the upstream is unusable in any case
	for _, s := range streams {
		s.fail(err)
	}
}
