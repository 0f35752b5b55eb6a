package tunnel

import (
	"io"
	"net"
)

// delivery gathers the bytes for one stream that stand in the reader's buffer,
// so that one system call writes what came in several frames.
type delivery struct {
	stream    *stream
	chunks    [][]byte
	remaining net.Buffers // what flush has not handed on yet
}

func (d *delivery) add(to *stream, chunk []byte) {
	if d.stream != to {
		d.flush()
		d.stream = to
	}
	d.chunks = append(d.chunks, chunk)
}

// flush hands on what was gathered.
func (d *delivery) flush() {
	if len(d.chunks) == 0 {
		return
	}
	d.remaining = d.chunks
	d.stream.deliver(&d.remaining)
	clear(d.chunks)
	d.chunks = d.chunks[:0]
}

// frameReader reads frames through a buffer of its own, so that the bytes of
// data frames can be handed on from it without being copied.
type frameReader struct {
	r           io.Reader
	bulk        *bulkConn // below r; may be nil
	readAhead   bool      // see upstream
	buf         readBuffer
	begin, end  int // what was read and not yet handed out
	liveness    *liveness
	beforeReuse func() // called before what was handed out is overwritten; may be nil
}

// next returns at least one and at most limit bytes, which are good until
// spent is called.
func (f *frameReader) next(limit int) ([]byte, error) {
	if f.begin == f.end {
		if err := f.fill(); err != nil {
			return nil, err
		}
	}
	chunk := f.buf.bytes()[f.begin:min(f.end, f.begin+limit)]
	f.begin += len(chunk)
	return chunk, nil
}

// fill waits for bytes, and takes all those that have come with them.
func (f *frameReader) fill() error {
	if f.beforeReuse != nil {
		f.beforeReuse()
	}
	f.buf.resize(f.bulk != nil && f.bulk.fast)
	f.liveness.readerWaits()
	n, err := f.r.Read(f.buf.bytes())
	f.liveness.receive()
	if n == 0 {
		if err == nil {
			err = io.ErrNoProgress
		}
		return err
	}
	f.begin, f.end = 0, n
	for f.readAhead && f.end < len(f.buf.bytes()) && err == nil {
		n, err = f.bulk.readBuffered(f.readMore)
		f.end += n
	}
	return nil // an error comes again
}

func (f *frameReader) readMore() (int, error) { return f.r.Read(f.buf.bytes()[f.end:]) }

// readFull fills p.
func (f *frameReader) readFull(p []byte) error {
	for len(p) > 0 {
		chunk, err := f.next(len(p))
		if err != nil {
			return err
		}
		p = p[copy(p, chunk):]
	}
	return nil
}
