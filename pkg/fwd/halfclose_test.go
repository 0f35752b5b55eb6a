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

// halfClosing is a pod that notes when it learns that the client says no more,
// and what it had heard by then.
type halfClosing struct {
	answer func(pod *memory)
	began  time.Time
	ended  chan time.Duration
	heard  string
	err    error
}

func newHalfClosing(answer func(pod *memory)) *halfClosing {
	return &halfClosing{answer: answer, ended: make(chan time.Duration, 1)}
}

func (h *halfClosing) handle(pod *memory) {
	h.answer(pod)
	rest, err := io.ReadAll(pod)
	h.heard, h.err = h.heard+string(rest), err
	h.ended <- time.Since(h.began)
}

// endsAfter has a client say something, lets the time given pass, ends its
// sending half by what end does, and returns when the pod has learned that.
func (h *halfClosing) endsAfter(t *testing.T, wait time.Duration, end func(*memory)) (after time.Duration) {
	t.Helper()
	inBubble(t, service("web", "a"), map[string]behaviour{"a": answers(h.handle)}, nil, func(b *bubble) {
		h.ended = make(chan time.Duration, 1) // the bubble's
		client := b.connect()
		_, _ = io.WriteString(client, "hello")
		b.after(wait)
		h.began = time.Now()
		end(client)
		select {
		case after = <-h.ended:
		case <-time.After(2 * time.Minute):
			t.Error("the pod never learns that")
			_ = client.Close()
		}
	})
	return after
}

func halfClose(c *memory) { _ = c.CloseWrite() }

// about allows for the looks that are taken only now and then.
func about(got, want time.Duration) bool {
	late := 500 * time.Millisecond
	if want == 0 {
		late = 20 * time.Millisecond
	}
	return got >= want && got <= want+late
}

func TestHalfCloseWaitsForTheAnswer(t *testing.T) {
	greet := func(after time.Duration) func(*memory) {
		return func(pod *memory) {
			_, _ = io.ReadFull(pod, make([]byte, len("hello")))
			<-time.After(after)
			_, _ = io.WriteString(pod, "hello")
		}
	}
	for name, c := range map[string]struct {
		answer      func(*memory)
		wait, after time.Duration
	}{
		"an echo":             {greet(0), 0, 1500 * time.Millisecond},
		"a late answer":       {greet(5 * time.Second), 0, 6500 * time.Millisecond},
		"already answered":    {greet(0), 10 * time.Second, 0},
		"answered just now":   {greet(time.Second), 1500 * time.Millisecond, time.Second},
		"never answered":      {func(*memory) {}, 0, 30 * time.Second},
		"nobody ever answers": {func(*memory) {}, time.Minute, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newHalfClosing(c.answer)
			if after := pod.endsAfter(t, c.wait, halfClose); !about(after, c.after) || pod.err != nil {
				t.Errorf("the pod learns of the end after %v, %v; want it after %v", after, pod.err, c.after)
			}
		})
	}
	t.Run("what was answered before the last word", func(t *testing.T) {
		pod := newHalfClosing(func(pod *memory) {
			_, _ = io.WriteString(pod, "welcome")
			_, _ = io.ReadFull(pod, make([]byte, len("hellobye")))
			<-time.After(4 * time.Second)
			_, _ = io.WriteString(pod, "bye")
		})
		after := pod.endsAfter(t, 10*time.Second, func(c *memory) {
			_, _ = io.WriteString(c, "bye")
			halfClose(c)
		})
		if !about(after, 5500*time.Millisecond) {
			t.Errorf("the pod learns of the end after %v", after)
		}
	})
}

// An end that comes before there is a pod is passed on to the one that comes.
func TestHalfCloseWhileHeld(t *testing.T) {
	pods := map[string]behaviour{"a": speaks("a"), "b": answers(func(pod *memory) {
		heard, err := io.ReadAll(pod)
		if err != nil {
			heard = []byte(err.Error())
		}
		_, _ = pod.Write(heard)
	})}
	inBubble(t, service("web"), pods, func(e *fwd.Engine) { e.Hold = time.Minute }, func(b *bubble) {
		client := b.connect()
		_, _ = io.WriteString(client, "hello")
		halfClose(client)
		b.after(5 * time.Second)
		b.set(service("web", "a"))
		if answer, err := io.ReadAll(client); string(answer) != "a" || err != nil {
			t.Errorf("answer %q, %v", answer, err)
		}
		b.set(service("web"))
		client = b.connect()
		_, _ = io.WriteString(client, "hello")
		halfClose(client)
		b.after(40 * time.Second)
		b.set(service("web", "b"))
		if answer, err := io.ReadAll(client); string(answer) != "hello" || err != nil {
			t.Errorf("answer %q, %v", answer, err)
		}
	})
}

// A client that has gone waits for nothing.
func TestHalfCloseOfAClientThatHasGone(t *testing.T) {
	leave := func(c *memory) { _ = c.Close() }
	t.Run("answered", func(t *testing.T) {
		pod := newHalfClosing(func(pod *memory) { _, _ = io.WriteString(pod, "x") })
		after := pod.endsAfter(t, time.Second, func(c *memory) {
			_, _ = c.Read(make([]byte, 1))
			leave(c)
		})
		if !about(after, 0) {
			t.Errorf("the pod learns of it after %v", after)
		}
	})
	t.Run("with unanswered words", func(t *testing.T) {
		pod := newHalfClosing(func(*memory) {})
		if after := pod.endsAfter(t, 0, leave); after != 0 || pod.heard != "hello" || pod.err != nil {
			t.Errorf("the pod heard %q, %v, after %v", pod.heard, pod.err, after)
		}
	})
	t.Run("with unanswered words, from a pod that doesn't mind", func(t *testing.T) {
		for name, mind := range map[string]func(*memory){
			"silent": func(*memory) {},
			"talks":  func(pod *memory) { _, _ = io.WriteString(pod, "x") },
		} {
			var ended time.Duration
			pods := map[string]behaviour{"a": answers(func(pod *memory) {
				began := time.Now()
				_, _ = io.ReadAll(pod)
				for {
					mind(pod)
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
				b.after(10 * time.Second)
				if !about(ended, 2*time.Second) {
					t.Errorf("%s: the stream is closed after %v", name, ended)
				}
			})
		}
	})
	t.Run("later", func(t *testing.T) {
		pod := newHalfClosing(func(*memory) {})
		after := pod.endsAfter(t, 0, func(c *memory) {
			halfClose(c)
			time.AfterFunc(5*time.Second, func() { _ = c.Close() })
		})
		if after < 5*time.Second || after > 5500*time.Millisecond || pod.heard != "hello" {
			t.Errorf("the pod heard %q after %v", pod.heard, after)
		}
	})
}

// Where nobody knows whether a client has gone, it counts as there.
func TestHalfCloseUnknown(t *testing.T) {
	var took time.Duration
	pods := map[string]behaviour{"a": answers(func(pod *memory) {
		began := time.Now()
		_, _ = io.Copy(pod, pod)
		took = time.Since(began)
	})}
	inBubble(t, service("web", "a"), pods, func(e *fwd.Engine) { e.Gone = nil }, func(b *bubble) {
		if answer, _, err := b.halfClosed("hello"); answer != "hello" || err != nil || !about(took, 1500*time.Millisecond) {
			t.Errorf("answer %q, %v; the pod learned of the end after %v", answer, err, took)
		}
	})
}

// halfClosed says something, ends its sending half and reads to the end.
func (b *bubble) halfClosed(say string) (answer string, took time.Duration, err error) {
	client := b.connect()
	_, _ = io.WriteString(client, say)
	halfClose(client)
	return b.hear(client, "")
}

// The same through the sockets of the system, and with what it says of them.
func TestHalfCloseOfSockets(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("here the system can't be asked whether a client has gone")
	}
	ended := make(chan error, 1)
	echo := serve(t, func(conn *net.TCPConn) {
		_, err := io.Copy(conn, conn)
		ended <- err
	})
	at, _, _, _ := forwardingWith(t, &fwd.Engine{Dialer: pods{"a": echo}, Gone: listen.Orphaned}, service("web", "a"))
	open := func(t *testing.T) *net.TCPConn {
		conn, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_, _ = io.WriteString(conn, "hello")
		return conn.(*net.TCPConn)
	}
	t.Run("a client that waits", func(t *testing.T) {
		conn := open(t)
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if answer, err := io.ReadAll(conn); string(answer) != "hello" || err != nil {
			t.Errorf("answer %q, %v", answer, err)
		}
		<-ended
	})
	t.Run("a client that has gone", func(t *testing.T) {
		conn := open(t)
		_, _ = io.ReadFull(conn, make([]byte, 5))
		began := time.Now()
		_ = conn.Close()
		<-ended
		if took := time.Since(began); took > time.Second {
			t.Errorf("the pod learns of it after %v", took)
		}
	})
}

// A pod that breaks off while the client's end is held back resets the client.
func TestHalfCloseThenAReset(t *testing.T) {
	pods := map[string]behaviour{"a": answers(func(pod *memory) {
		_, _ = io.WriteString(pod, "x")
		<-time.After(time.Second)
		pod.breakOff(syscall.ECONNRESET)
	})}
	inBubble(t, service("web", "a"), pods, nil, func(b *bubble) {
		if _, took, err := b.halfClosed("hello"); !errors.Is(err, syscall.ECONNRESET) || took != time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}
