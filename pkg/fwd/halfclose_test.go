package fwd_test

import (
	"errors"
	"io"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/listen"
)

// halfClosing is a pod that records when it reads the client's end, and what it
// has received by then.
type halfClosing struct {
	answer   func(pod *memConn)
	began    time.Time
	ended    chan time.Duration
	received string
	err      error
}

func newHalfClosing(answer func(pod *memConn)) *halfClosing {
	return &halfClosing{answer: answer, ended: make(chan time.Duration, 1)}
}

func (h *halfClosing) handle(pod *memConn) {
	h.answer(pod)
	rest, err := io.ReadAll(pod)
	h.received, h.err = h.received+string(rest), err
	h.ended <- time.Since(h.began)
}

// endsAfter connects a client that writes something and calls end after the given
// time. It returns how long after that the pod read the client's end.
func (h *halfClosing) endsAfter(t *testing.T, wait time.Duration, end func(*memConn)) (after time.Duration) {
	t.Helper()
	inBubble(t, service("web", "a"), map[string]behavior{"a": answers(h.handle)}, nil, func(b *bubble) {
		h.ended = make(chan time.Duration, 1) // the bubble's
		client := b.connect()
		_, _ = io.WriteString(client, "hello")
		b.sleep(wait)
		h.began = time.Now()
		end(client)
		select {
		case after = <-h.ended:
		case <-time.After(2 * time.Minute):
			t.Error("the pod never read the end")
			_ = client.Close()
		}
	})
	return after
}

func halfClose(c *memConn) { _ = c.CloseWrite() }

// about reports whether got is want, or later by at most the polling interval.
func about(got, want time.Duration) bool {
	late := 500 * time.Millisecond
	if want == 0 {
		late = 20 * time.Millisecond
	}
	return got >= want && got <= want+late
}

func TestHalfCloseWaitsForAnswer(t *testing.T) {
	greet := func(after time.Duration) func(*memConn) {
		return func(pod *memConn) {
			_, _ = io.ReadFull(pod, make([]byte, len("hello")))
			<-time.After(after)
			_, _ = io.WriteString(pod, "hello")
		}
	}
	for name, c := range map[string]struct {
		answer      func(*memConn)
		wait, after time.Duration
	}{
		"echo":                      {greet(0), 0, 1500 * time.Millisecond},
		"late answer":               {greet(5 * time.Second), 0, 6500 * time.Millisecond},
		"already answered":          {greet(0), 10 * time.Second, 0},
		"answered just now":         {greet(time.Second), 1500 * time.Millisecond, time.Second},
		"never answered":            {func(*memConn) {}, 0, 30 * time.Second},
		"never answered, later end": {func(*memConn) {}, time.Minute, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newHalfClosing(c.answer)
			if after := pod.endsAfter(t, c.wait, halfClose); !about(after, c.after) || pod.err != nil {
				t.Errorf("the pod reads the end after %v, %v; want after %v", after, pod.err, c.after)
			}
		})
	}
	t.Run("answered before the last bytes", func(t *testing.T) {
		pod := newHalfClosing(func(pod *memConn) {
			_, _ = io.WriteString(pod, "welcome")
			_, _ = io.ReadFull(pod, make([]byte, len("hellobye")))
			<-time.After(4 * time.Second)
			_, _ = io.WriteString(pod, "bye")
		})
		after := pod.endsAfter(t, 10*time.Second, func(c *memConn) {
			_, _ = io.WriteString(c, "bye")
			halfClose(c)
		})
		if !about(after, 5500*time.Millisecond) {
			t.Errorf("the pod reads the end after %v, want 5.5s", after)
		}
	})
}

// An end that comes before there is a pod is passed on to the next pod.
func TestHalfCloseWhileHeld(t *testing.T) {
	pods := map[string]behavior{"a": writes("a"), "b": answers(func(pod *memConn) {
		received, err := io.ReadAll(pod)
		if err != nil {
			received = []byte(err.Error())
		}
		_, _ = pod.Write(received)
	})}
	inBubble(t, service("web"), pods, func(e *fwd.Engine) { e.HoldTimeout = time.Minute }, func(b *bubble) {
		client := b.connect()
		_, _ = io.WriteString(client, "hello")
		halfClose(client)
		b.sleep(5 * time.Second)
		b.set(service("web", "a"))
		if answer, err := io.ReadAll(client); string(answer) != "a" || err != nil {
			t.Errorf("got answer %q, %v; want a", answer, err)
		}
		b.set(service("web"))
		client = b.connect()
		_, _ = io.WriteString(client, "hello")
		halfClose(client)
		b.sleep(40 * time.Second)
		b.set(service("web", "b"))
		if answer, err := io.ReadAll(client); string(answer) != "hello" || err != nil {
			t.Errorf("got answer %q, %v; want hello", answer, err)
		}
	})
}

// For a client that has disconnected, the end is not held back.
func TestHalfCloseOfDisconnectedClient(t *testing.T) {
	disconnect := func(c *memConn) { _ = c.Close() }
	t.Run("answered", func(t *testing.T) {
		pod := newHalfClosing(func(pod *memConn) { _, _ = io.WriteString(pod, "x") })
		after := pod.endsAfter(t, time.Second, func(c *memConn) {
			_, _ = c.Read(make([]byte, 1))
			disconnect(c)
		})
		if !about(after, 0) {
			t.Errorf("the pod reads the end after %v, want immediately", after)
		}
	})
	t.Run("unanswered", func(t *testing.T) {
		pod := newHalfClosing(func(*memConn) {})
		if after := pod.endsAfter(t, 0, disconnect); after != 0 || pod.received != "hello" || pod.err != nil {
			t.Errorf("the pod received %q, %v after %v; want \"hello\" immediately", pod.received, pod.err, after)
		}
	})
	t.Run("unanswered, from a pod that ignores the end", func(t *testing.T) {
		for name, act := range map[string]func(*memConn){
			"silent": func(*memConn) {},
			"writes": func(pod *memConn) { _, _ = io.WriteString(pod, "x") },
		} {
			var ended time.Duration
			pods := map[string]behavior{"a": answers(func(pod *memConn) {
				began := time.Now()
				_, _ = io.ReadAll(pod)
				for {
					act(pod)
					if _, err := pod.Write(nil); err != nil {
						break // the stream is closed
					}
					<-time.After(10 * time.Millisecond)
				}
				ended = time.Since(began)
			})}
			inBubble(t, service("web", "a"), pods, nil, func(b *bubble) {
				client := b.connect()
				_, _ = io.WriteString(client, "hello")
				_ = client.Close()
				b.sleep(10 * time.Second)
				if !about(ended, 2*time.Second) {
					t.Errorf("%s: the stream is closed after %v, want 2s", name, ended)
				}
			})
		}
	})
	t.Run("later", func(t *testing.T) {
		pod := newHalfClosing(func(*memConn) {})
		after := pod.endsAfter(t, 0, func(c *memConn) {
			halfClose(c)
			time.AfterFunc(5*time.Second, func() { _ = c.Close() })
		})
		if after < 5*time.Second || after > 5500*time.Millisecond || pod.received != "hello" {
			t.Errorf("the pod received %q after %v, want \"hello\" after 5s", pod.received, after)
		}
	})
}

// If it is unknown whether a client has disconnected, it counts as connected.
func TestHalfCloseWithoutClientGone(t *testing.T) {
	var took time.Duration
	pods := map[string]behavior{"a": answers(func(pod *memConn) {
		began := time.Now()
		_, _ = io.Copy(pod, pod)
		took = time.Since(began)
	})}
	inBubble(t, service("web", "a"), pods, func(e *fwd.Engine) { e.ClientGone = nil }, func(b *bubble) {
		if answer, _, err := b.halfCloseAndRead("hello"); answer != "hello" || err != nil || !about(took, 1500*time.Millisecond) {
			t.Errorf("got answer %q, %v; the pod read the end after %v, want 1.5s", answer, err, took)
		}
	})
}

// halfCloseAndRead connects, writes a text, ends its sending half and reads to
// the end.
func (b *bubble) halfCloseAndRead(text string) (answer string, took time.Duration, err error) {
	client := b.connect()
	_, _ = io.WriteString(client, text)
	halfClose(client)
	return b.exchange(client, "")
}

// The same with real sockets, and the state that the system reports for them.
func TestHalfCloseOfSockets(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("this system doesn't report whether a client has disconnected")
	}
	ended := make(chan error, 1)
	echo := serve(t, func(conn *net.TCPConn) {
		_, err := io.Copy(conn, conn)
		ended <- err
	})
	clients, err := listen.NewClients(listen.ForEveryone)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(clients.Close)
	at, _, _, _ := forwardingWith(t, &fwd.Engine{Dialer: tcpPods{"a": echo}, ClientGone: clients.Orphaned}, service("web", "a"))
	open := func(t *testing.T) *net.TCPConn {
		conn, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_, _ = io.WriteString(conn, "hello")
		return conn.(*net.TCPConn)
	}
	t.Run("client waits", func(t *testing.T) {
		conn := open(t)
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if answer, err := io.ReadAll(conn); string(answer) != "hello" || err != nil {
			t.Errorf("got answer %q, %v; want hello", answer, err)
		}
		<-ended
	})
	t.Run("client disconnects", func(t *testing.T) {
		conn := open(t)
		_, _ = io.ReadFull(conn, make([]byte, 5))
		began := time.Now()
		_ = conn.Close()
		<-ended
		if took := time.Since(began); took > time.Second {
			t.Errorf("the pod reads the end after %v, want within 1s", took)
		}
	})
}

// A pod's reset while the client's end is held back resets the client.
func TestHalfCloseThenReset(t *testing.T) {
	pods := map[string]behavior{"a": answers(func(pod *memConn) {
		_, _ = io.WriteString(pod, "x")
		<-time.After(time.Second)
		pod.breakOff(syscall.ECONNRESET)
	})}
	inBubble(t, service("web", "a"), pods, nil, func(b *bubble) {
		if _, took, err := b.halfCloseAndRead("hello"); !errors.Is(err, syscall.ECONNRESET) || took != time.Second {
			t.Errorf("got %v after %v, want a reset after 1s", err, took)
		}
	})
}
