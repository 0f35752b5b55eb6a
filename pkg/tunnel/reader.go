package tunnel

import (
	"io"
	"net"
)

// delivery collects the chunks for one stream that are in the reader's buffer,
// so that several frames are written with one system call.
type delivery struct {
	stream    *stream
	chunks    [][]byte
	remaining net.Buffers // the chunks that flush hasn't delivered yet
}

func (d *delivery) add(s *stream, chunk []byte) {
	if d.stream != s {
		d.flush()
		d.stream = s
	}
	d.chunks = append(d.chunks, chunk)
}

// flush delivers the collected chunks.
func (d *delivery) flush() {
	if len(d.chunks) == 0 {
		return
	}
	d.remaining = d.chunks
	d.stream.deliver(&d.remaining)
	clear(d.chunks)
	d.chunks = d.chunks[:0]
}

// frameReader reads frames through its own buffer, from which the bytes of data
// frames are delivered without copying.
type frameReader struct {
	r           io.Reader
	bulk        *bulkConn // below r; may be nil
	readAhead   bool      // see upstream
	buf         readBuffer
	begin, end  int // the unread part of buf
	liveness    *liveness
	beforeReuse func() // called before the buffer is overwritten; may be nil
}

// next returns between one and limit bytes, which are valid until beforeReuse is
// called.
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

// fill waits for bytes and reads all that are available.
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
	return nil // the next read returns the error again
}

// readMore appends to the buffer.
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
