package tunnel

import (
	"io"
	"net"
	"testing"
	"time"
)

// repeated is a connection whose other side repeats the same bytes and accepts
// all writes.
type repeated struct {
	net.Conn
	frames []byte
	at     int
	left   int // number of repetitions until the end
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.frames[r.at:])
	if r.at += n; r.at == len(r.frames) {
		r.at = 0
		r.left--
	}
	return n, nil
}

func (*repeated) Write(p []byte) (int, error)      { return len(p), nil }
func (*repeated) Close() error                     { return nil }
func (*repeated) SetWriteDeadline(time.Time) error { return nil }

// receive makes an upstream receive n data frames of a size for a TCP client.
func receive(b *testing.B, n, size int) {
	b.Helper()
	ours, theirs := tcpPair(b)
	drained := make(chan error, 1)
	go func() {
		_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{theirs}, make([]byte, 1<<20))
		drained <- err
	}()
	u := newUpstream(&repeated{frames: append(appendDataHeader(nil, 3, 0, size), make([]byte, size)...), left: n}, nil)
	s, err := u.open(80)
	if err != nil {
		b.Fatal(err)
	}
	s.local = newLocalConn(ours)
	b.ResetTimer()
	_ = u.read()
	b.StopTimer()
	if s.written != int64(n*size) {
		b.Fatalf("got %d bytes written, want %d", s.written, n*size)
	}
	_ = ours.Close()
	if err := <-drained; err != nil {
		b.Fatal(err)
	}
}

func tcpPair(b testing.TB) (ours, theirs *net.TCPConn) {
	b.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	if ours, err = net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr)); err != nil {
		b.Fatal(err)
	}
	if theirs, err = l.AcceptTCP(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	return ours, theirs
}

// send makes a stream send n frames of a size.
func send(b *testing.B, n, size int) {
	b.Helper()
	u := newUpstream(&repeated{}, nil)
	s, err := u.open(80)
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	if sent, err := s.ReadFrom(&chunkReader{left: n, size: size}); err != nil || sent != int64(n*size) {
		b.Fatalf("got %d bytes sent, want %d, error %v", sent, n*size, err)
	}
}

// chunkReader returns the given number of chunks of a size.
type chunkReader struct{ left, size, at int }

func (w *chunkReader) Read(p []byte) (int, error) {
	if w.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), w.size-w.at)
	if w.at += n; w.at == w.size {
		w.at = 0
		w.left--
	}
	return n, nil
}

var benchSizes = map[string]int{"100B": 100, "32KiB": 32 << 10}

func BenchmarkReceive(b *testing.B) {
	for name, size := range benchSizes {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			receive(b, b.N, size)
		})
	}
}

func BenchmarkSend(b *testing.B) {
	for name, size := range benchSizes {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			send(b, b.N, size)
		})
	}
}

// Data frames cost no allocation in either direction.
func TestFramesDontAllocate(t *testing.T) {
	for direction, run := range map[string]func(b *testing.B, n, size int){"receive": receive, "send": send} {
		for name, size := range benchSizes {
			result := testing.Benchmark(func(b *testing.B) { run(b, b.N, size) })
			if n := result.AllocsPerOp(); n > 0 {
				t.Errorf("%s of frames of %s: got %d allocations per frame, want 0", direction, name, n)
			}
		}
	}
}
