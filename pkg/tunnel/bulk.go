package tunnel

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// readSize is how much is read at once, bulkReadSize while bytes come at a
	// pace. Most connections are idle most of the time.
	readSize     = 32 << 10
	bulkReadSize = 256 << 10
	// They come at a pace if bulkSize came within bulkTime.
	bulkSize = 256 << 10
	// bulkTime is also how long a read then waits for lowWater bytes. That
	// saves most of the wake-ups, which cost more than the bytes do.
	bulkTime = 4 * time.Millisecond
	lowWater = 128 << 10
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
	in         readBuffer
	begin, end int  // of in: what was read and not yet handed out
	dry        bool // Read only hands out what was read already
	came       int  // bytes that came from since on
	since      time.Time
	fast       bool // they come at a pace
	waits      lowWaterReader

	// Most is written by together, by one goroutine at a time; but TLS and
	// WebSocket have something to say of their own now and then, while they read.
	gathering atomic.Bool // together runs
	mu        sync.Mutex
	cork      bool
	out       *[]byte    // what is written while corked
	busy      bool       // somebody writes to Conn
	idle      *sync.Cond // nobody does any more
	after     []byte     // what was written meanwhile: it doesn't wait

	// handshake is how many more bytes may be read before the upgrade is done;
	// negative once it is.
	handshake int
}

// handshakeSize is how much may come before the upgrade is done.
const handshakeSize = 1 << 20

func newBulkConn(conn net.Conn) *bulkConn {
	c := &bulkConn{Conn: conn, in: readBuffer{small: make([]byte, readSize)}, handshake: handshakeSize}
	c.idle = sync.NewCond(&c.mu)
	c.waits.init(conn)
	return c
}

// errDry says that nothing can be had without waiting. TLS takes it as a
// passing fault, as it does a timeout: what it has of a record it keeps.
type errDry struct{}

func (errDry) Error() string   { return "nothing is there yet" }
func (errDry) Timeout() bool   { return true }
func (errDry) Temporary() bool { return true }

// Read is for one goroutine at a time.
func (c *bulkConn) Read(p []byte) (int, error) {
	if c.begin == c.end {
		if c.dry {
			return 0, errDry{}
		}
		n, err := c.fill()
		if err != nil {
			return 0, err
		}
		if c.handshake >= 0 {
			if c.handshake -= n; c.handshake < 0 {
				return 0, errTooMuch
			}
		}
		c.begin, c.end = 0, n
	}
	n := copy(p, c.in.bytes()[c.begin:c.end])
	c.begin += n
	return n, nil
}

// errTooMuch is for a server that doesn't come to an end with its answer.
var errTooMuch = errors.New("its answer to the upgrade is too large")

// upgraded says that the upgrade is done. It must be called before the next Read.
func (c *bulkConn) upgraded() { c.handshake = -1 }

// ready calls read, whose reads through the connection get only what was read
// from the network already.
func (c *bulkConn) ready(read func() (int, error)) (int, error) {
	c.dry = true
	defer func() { c.dry = false }()
	return read()
}

// fill reads from the network, in the manner that the pace suggests.
func (c *bulkConn) fill() (int, error) {
	c.in.resize(c.fast)
	if c.fast {
		n, err := c.waits.read(c.in.bytes())
		c.fast, c.came = n >= lowWater, 0
		if n > 0 || err != nil {
			return n, err
		}
		c.in.resize(false)
	}
	n, err := c.Conn.Read(c.in.bytes())
	if c.came == 0 {
		c.since = time.Now()
	}
	if c.came += n; c.came >= bulkSize {
		c.fast = time.Since(c.since) < bulkTime && c.waits.start()
		c.came = 0
	}
	return n, err
}

// acked returns how many bytes of ours the other side's kernel has taken, if that
// can be known. c may be nil.
func (c *bulkConn) acked() (n uint64, known bool) {
	if c == nil {
		return 0, false
	}
	return c.waits.acked()
}

func (c *bulkConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.cork:
		*c.out = append(*c.out, p...)
	case c.busy:
		if c.after = append(c.after, p...); len(c.after) > maxQueued {
			return 0, errProtocol // it asks for more answers than it takes
		}
	default:
		return len(p), c.send(p)
	}
	return len(p), nil
}

// together calls write and then sends all that it wrote to c at once.
func (c *bulkConn) together(write func() error) error {
	c.gathering.Store(true)
	defer c.gathering.Store(false)
	c.mu.Lock()
	c.cork, c.out = true, corked.Get().(*[]byte)
	c.mu.Unlock()
	err := write()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.busy {
		c.idle.Wait() // what comes meanwhile stands behind what is in out
	}
	c.cork = false
	if err == nil && len(*c.out) > 0 {
		err = c.send(*c.out)
	}
	*c.out = (*c.out)[:0]
	corked.Put(c.out)
	c.out = nil
	return err
}

// send writes to the network, and then what was to be written meanwhile. mu must
// be held, and is not during the writes.
func (c *bulkConn) send(p []byte) (err error) {
	c.busy = true
	for err == nil && len(p) > 0 {
		c.mu.Unlock()
		_, err = c.Conn.Write(p)
		c.mu.Lock()
		p, c.after = c.after, nil
	}
	c.busy = false
	c.idle.Broadcast()
	return err
}

// corked has buffers for what is written while corked.
var corked = sync.Pool{New: func() any { return new([]byte) }}

// SetWriteDeadline leaves what together sends alone: it is what gorilla's
// WebSocket would wait for before it answers a PING, if it knew.
func (c *bulkConn) SetWriteDeadline(t time.Time) error {
	if c.gathering.Load() {
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}
