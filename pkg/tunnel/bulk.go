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
	// readSize is the read size of most connections, which are idle most of the
	// time; bulkReadSize is that of a fast transfer.
	readSize     = 32 << 10
	bulkReadSize = 256 << 10
	// A transfer is fast if bulkWindowBytes come within bulkWindow.
	bulkWindowBytes = 256 << 10
	// bulkWindow is also how long a read of a fast transfer waits for lowWater
	// bytes. This avoids most wake-ups, which cost more than the copying.
	bulkWindow = 4 * time.Millisecond
	lowWater   = 128 << 10
)

// readBuffers holds buffers of bulkReadSize.
var readBuffers = sync.Pool{New: func() any { return new([bulkReadSize]byte) }}

// readBuffer is a buffer of readSize or bulkReadSize.
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

// resize switches between the two sizes. It discards the contents.
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

// bulkConn is the connection below TLS. It merges TLS's many small system calls,
// one per record of 16 KiB, into few large ones.
type bulkConn struct {
	net.Conn

	// The following fields belong to the reading goroutine.
	in           readBuffer
	begin, end   int  // the unread part of in
	bufferedOnly bool // Read doesn't read from the network
	windowBytes  int  // bytes read since windowStart
	windowStart  time.Time
	fast         bool // a fast transfer is under way
	bulkReader   lowWaterReader

	// Most writes come from batch, which one goroutine calls at a time. TLS and
	// WebSocket occasionally write while they read.
	batching   atomic.Bool // batch is running
	mu         sync.Mutex
	corked     bool
	corkBuffer *[]byte        // collects writes while corked
	sending    bool           // a goroutine writes to Conn
	idle       wake.Broadcast // fires when sending ends
	pending    []byte         // collects writes while sending, without blocking them

	// handshakeLeft is how many more bytes may come before the upgrade is done;
	// negative afterwards.
	handshakeLeft int
}

// maxHandshakeSize bounds the bytes read before the upgrade is done.
const maxHandshakeSize = 1 << 20

func newBulkConn(conn net.Conn) *bulkConn {
	c := &bulkConn{Conn: conn, in: readBuffer{small: make([]byte, readSize)}, handshakeLeft: maxHandshakeSize}
	c.bulkReader.init(conn)
	return c
}

// errWouldBlock reports that no buffered bytes are left. TLS treats it as a
// temporary error, like a timeout, and keeps the part of a record that it has.
type errWouldBlock struct{}

func (errWouldBlock) Error() string   { return "read would block" }
func (errWouldBlock) Timeout() bool   { return true }
func (errWouldBlock) Temporary() bool { return true }

// Read may be called by only one goroutine at a time.
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

// errResponseTooLarge ends an upgrade whose response exceeds maxHandshakeSize.
var errResponseTooLarge = errors.New("the response to the upgrade request is too large")

// handshakeDone lifts the limit on the bytes read. It must be called between
// reads.
func (c *bulkConn) handshakeDone() { c.handshakeLeft = -1 }

// readBuffered calls read. Reads of the connection within it return only
// buffered bytes.
func (c *bulkConn) readBuffered(read func() (int, error)) (int, error) {
	c.bufferedOnly = true
	defer func() { c.bufferedOnly = false }()
	return read()
}

// fill reads from the network, during a fast transfer with the low-water mark.
func (c *bulkConn) fill() (int, error) {
	c.in.resize(c.fast)
	if c.fast {
		n, err := c.bulkReader.read(c.in.bytes())
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
		c.fast = time.Since(c.windowStart) < bulkWindow && c.bulkReader.start()
		c.windowBytes = 0
	}
	return n, err
}

// acked returns how many bytes the other side's kernel has acknowledged, if
// known. c may be nil.
func (c *bulkConn) acked() (n uint64, known bool) {
	if c == nil {
		return 0, false
	}
	return c.bulkReader.acked()
}

func (c *bulkConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.corked:
		*c.corkBuffer = append(*c.corkBuffer, p...)
	case c.sending:
		if c.pending = append(c.pending, p...); len(c.pending) > maxQueuedControl {
			return 0, errProtocol // the server requests replies faster than it reads them
		}
	default:
		return len(p), c.sendLocked(p)
	}
	return len(p), nil
}

// batch calls write, and then sends everything that it wrote at once.
func (c *bulkConn) batch(write func() error) error {
	c.batching.Store(true)
	defer c.batching.Store(false)
	c.mu.Lock()
	c.corked, c.corkBuffer = true, corkBuffers.Get().(*[]byte)
	c.mu.Unlock()
	err := write()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.sending { // writes meanwhile are added to corkBuffer
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

// sendLocked writes p to the network, and then everything written meanwhile. mu
// must be held; sendLocked releases it during the writes.
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

// corkBuffers holds the buffers of batch.
var corkBuffers = sync.Pool{New: func() any { return new([]byte) }}

// SetWriteDeadline does nothing during a batch: gorilla's WebSocket sets a
// deadline when it answers a PING, which would apply to the batch, too.
func (c *bulkConn) SetWriteDeadline(t time.Time) error {
	if c.batching.Load() {
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}
