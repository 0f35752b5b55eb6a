package tunnel

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubeshore/kubeshore/internal/wake"
)

const (
	// readSize is how much is read at once, bulkReadSize while bytes come at a
	// pace. Most connections are idle most of the time.
	readSize     = 32 << 10
	bulkReadSize = 256 << 10
	// They come at a pace if bulkWindowBytes came within bulkWindow.
	bulkWindowBytes = 256 << 10
	// bulkWindow is also how long a read then waits for lowWater bytes. That
	// saves most of the wake-ups, which cost more than the bytes do.
	bulkWindow = 4 * time.Millisecond
	lowWater   = 128 << 10
)

// readBuffers has those of bulkReadSize.
var readBuffers = sync.Pool{New: func() any { return new([bulkReadSize]byte) }}

// readBuffer is one that can grow and shrink.
type readBuffer struct {
	small []byte
	large *[bulkReadSize]byte // nil unless in use
}

func (b *readBuffer) bytes() []byte {
	if b.large != nil {
		return b.large[:]
	}
	return b.small
}

// resize must be called only when the bytes are of no use any more.
func (b *readBuffer) resize(large bool) {
	switch {
	case large == (b.large != nil):
	case large:
		b.large = readBuffers.Get().(*[bulkReadSize]byte)
	default:
		readBuffers.Put(b.large)
		b.large = nil
	}
}

// bulkConn stands below TLS and makes few large system calls of TLS's many
// small ones, which come a record (16 KiB) at a time.
type bulkConn struct {
	net.Conn

	// What follows is the reading goroutine's.
	in           readBuffer
	begin, end   int  // of in: what was read and not yet handed out
	bufferedOnly bool // Read only hands out what was read already
	windowBytes  int  // bytes that came from since on
	windowStart  time.Time
	fast         bool // they come at a pace
	lowWater     lowWaterReader

	// Most is written by together, by one goroutine at a time; but TLS and
	// WebSocket have something to say of their own now and then, while they read.
	batching   atomic.Bool // together runs
	mu         sync.Mutex
	corked     bool
	corkBuffer *[]byte        // what is written while corked
	sending    bool           // somebody writes to Conn
	idle       wake.Broadcast // nobody does any more
	pending    []byte         // what was written meanwhile: it doesn't wait

	// handshake is how many more bytes may be read before the upgrade is done;
	// negative once it is.
	handshakeLeft int
}

// maxHandshakeSize is how much may come before the upgrade is done.
const maxHandshakeSize = 1 << 20

func newBulkConn(conn net.Conn) *bulkConn {
	c := &bulkConn{Conn: conn, in: readBuffer{small: make([]byte, readSize)}, handshakeLeft: maxHandshakeSize}
	c.lowWater.init(conn)
	return c
}

// errWouldBlock says that nothing can be had without waiting. TLS takes it as a
// passing fault, as it does a timeout: what it has of a record it keeps.
type errWouldBlock struct{}

func (errWouldBlock) Error() string   { return "nothing is there yet" }
func (errWouldBlock) Timeout() bool   { return true }
func (errWouldBlock) Temporary() bool { return true }

// Read is for one goroutine at a time.
func (c *bulkConn) Read(p []byte) (int, error) {
	if c.begin == c.end {
		if c.bufferedOnly {
			return 0, errWouldBlock{}
		}
		n, err := c.fill()
		if err != nil {
			return 0, err
		}
		if c.handshakeLeft >= 0 {
			if c.handshakeLeft -= n; c.handshakeLeft < 0 {
				return 0, errResponseTooLarge
			}
		}
		c.begin, c.end = 0, n
	}
	n := copy(p, c.in.bytes()[c.begin:c.end])
	c.begin += n
	return n, nil
}

// errResponseTooLarge is for a server that doesn't come to an end with its answer.
var errResponseTooLarge = errors.New("its answer to the upgrade is too large")

// handshakeDone says that the upgrade is done. It must be called before the next Read.
func (c *bulkConn) handshakeDone() { c.handshakeLeft = -1 }

// readBuffered calls read, whose reads through the connection get only what was read
// from the network already.
func (c *bulkConn) readBuffered(read func() (int, error)) (int, error) {
	c.bufferedOnly = true
	defer func() { c.bufferedOnly = false }()
	return read()
}

// fill reads from the network, in the manner that the pace suggests.
func (c *bulkConn) fill() (int, error) {
	c.in.resize(c.fast)
	if c.fast {
		n, err := c.lowWater.read(c.in.bytes())
		c.fast, c.windowBytes = n >= lowWater, 0
		if n > 0 || err != nil {
			return n, err
		}
		c.in.resize(false)
	}
	n, err := c.Conn.Read(c.in.bytes())
	if c.windowBytes == 0 {
		c.windowStart = time.Now()
	}
	if c.windowBytes += n; c.windowBytes >= bulkWindowBytes {
		c.fast = time.Since(c.windowStart) < bulkWindow && c.lowWater.start()
		c.windowBytes = 0
	}
	return n, err
}

// acked returns how many bytes of ours the other side's kernel has taken, if that
// can be known. c may be nil.
func (c *bulkConn) acked() (n uint64, known bool) {
	if c == nil {
		return 0, false
	}
	return c.lowWater.acked()
}

func (c *bulkConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.corked:
		*c.corkBuffer = append(*c.corkBuffer, p...)
	case c.sending:
		if c.pending = append(c.pending, p...); len(c.pending) > maxQueuedControl {
			return 0, errProtocol // it asks for more answers than it takes
		}
	default:
		return len(p), c.sendLocked(p)
	}
	return len(p), nil
}

// batch calls write and then sends all that it wrote to c at once.
func (c *bulkConn) batch(write func() error) error {
	c.batching.Store(true)
	defer c.batching.Store(false)
	c.mu.Lock()
	c.corked, c.corkBuffer = true, corkBuffers.Get().(*[]byte)
	c.mu.Unlock()
	err := write()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.sending {
		idle := c.idle.C()
		c.mu.Unlock()
		<-idle
		c.mu.Lock()
	}
	c.corked = false
	if err == nil && len(*c.corkBuffer) > 0 {
		err = c.sendLocked(*c.corkBuffer)
	}
	*c.corkBuffer = (*c.corkBuffer)[:0]
	corkBuffers.Put(c.corkBuffer)
	c.corkBuffer = nil
	return err
}

// sendLocked writes to the network, and then what was to be written meanwhile. mu must
// be held, and is not during the writes.
func (c *bulkConn) sendLocked(p []byte) (err error) {
	c.sending = true
	for err == nil && len(p) > 0 {
		c.mu.Unlock()
		_, err = c.Conn.Write(p)
		c.mu.Lock()
		p, c.pending = c.pending, nil
	}
	c.sending = false
	c.idle.Fire()
	return err
}

// corkBuffers has buffers for what is written while corked.
var corkBuffers = sync.Pool{New: func() any { return new([]byte) }}

// SetWriteDeadline leaves what together sends alone: it is what gorilla's
// WebSocket would wait for before it answers a PING, if it knew.
func (c *bulkConn) SetWriteDeadline(t time.Time) error {
	if c.batching.Load() {
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}
