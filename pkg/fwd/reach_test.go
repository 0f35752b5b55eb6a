package fwd_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// listening is a pod that refuses until the flag is set, and then writes the first
// byte it reads and a text.
func listening(up *atomic.Bool, text string) behavior {
	return func(int) (func(*memConn), error) {
		if !up.Load() {
			return failsRead(fwd.PortClosed)(0)
		}
		return func(pod *memConn) {
			received := make([]byte, 1)
			n, _ := pod.Read(received)
			_, _ = io.WriteString(pod, string(received[:n])+text)
		}, nil
	}
}

func TestReachTriesAnotherPod(t *testing.T) {
	for _, reason := range []fwd.Reason{fwd.PodGone, fwd.PortClosed, fwd.NodeUnreachable} {
		for name, broken := range map[string]behavior{"dial": failsDial(reason), "stream": failsRead(reason)} {
			t.Run(name, func(t *testing.T) {
				inBubble(t, service("web", "a", "b"), map[string]behavior{"a": broken, "b": writes("b")}, nil, func(b *bubble) {
					for range 4 {
						if took := b.wantAnswer("b"); took > 0 {
							t.Errorf("took %v, want 0s", took)
						}
					}
				})
			})
		}
	}
}

func TestReachGivesUpImmediately(t *testing.T) {
	other := errors.New("got <html>")
	for name, c := range map[string]struct {
		broken   behavior
		attempts int // to both pods
	}{
		"all refuse":            {failsRead(fwd.PortClosed), 2},
		"denied":                {failsDial(fwd.Denied), 1},
		"an ordinary error":     {func(int) (func(*memConn), error) { return nil, other }, 1},
		"a process was reached": {answers(func(pod *memConn) { pod.breakOff(other) }), 1},
		"a process has answered": {answers(func(pod *memConn) {
			_, _ = io.WriteString(pod, "x")
			_, _ = pod.Read(make([]byte, 1))
			pod.breakOff(other)
		}), 1},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, service("web", "a", "b"), map[string]behavior{"a": c.broken, "b": c.broken}, nil, func(b *bubble) {
				b.wantReset(0)
				if got := b.fleet.attemptsOf("a") + b.fleet.attemptsOf("b"); got != c.attempts {
					t.Errorf("got %d attempts, want %d", got, c.attempts)
				}
			})
		})
	}
}

// A newly ready pod may not listen yet.
func TestReachRetriesNewlyReadyPod(t *testing.T) {
	var up atomic.Bool
	inBubble(t, service("web"), map[string]behavior{"a": listening(&up, "a")}, nil, func(b *bubble) {
		b.set(service("web", "a"))
		time.AfterFunc(4*time.Second, func() { up.Store(true) })
		if took := b.wantAnswer("xa"); took < 4*time.Second || took > 5*time.Second {
			t.Errorf("took %v, want 4s to 5s", took)
		}
		if attempts := b.fleet.attemptsOf("a"); attempts > 10 {
			t.Errorf("got %d attempts in 4 s, want at most 10", attempts)
		}
	})
	t.Run("gives up", func(t *testing.T) {
		var never atomic.Bool
		inBubble(t, service("web"), map[string]behavior{"a": listening(&never, "a")}, nil, func(b *bubble) {
			b.set(service("web", "a"))
			began := time.Now()
			if _, _, err := b.ask("x"); !errors.Is(err, syscall.ECONNRESET) || time.Since(began) > 11*time.Second {
				t.Errorf("got %v after %v, want a reset", err, time.Since(began))
			}
			b.wantReset(0)
		})
	})
	t.Run("host added later", func(t *testing.T) {
		var late atomic.Bool
		inBubble(t, service("other"), map[string]behavior{"a": listening(&late, "a")}, nil, func(b *bubble) {
			b.set(service("web", "a"))
			time.AfterFunc(time.Second, func() { late.Store(true) })
			b.wantAnswer("xa")
		})
	})
}

// A pod that has worked and refuses is about to terminate, or restarts.
func TestReachRetriesPodThatWorked(t *testing.T) {
	var up atomic.Bool
	restarting := func(t *testing.T, test func(b *bubble)) {
		t.Helper()
		up.Store(true)
		pods := map[string]behavior{"a": listening(&up, "a"), "b": writes("b")}
		inBubble(t, service("web", "a"), pods, nil, func(b *bubble) {
			b.wantAnswer("xa")
			up.Store(false)
			test(b)
		})
	}
	t.Run("until it listens again", func(t *testing.T) {
		restarting(t, func(b *bubble) {
			time.AfterFunc(2*time.Second, func() { up.Store(true) })
			if took := b.wantAnswer("xa"); took < 2*time.Second || took > 3*time.Second {
				b.Errorf("took %v, want 2s to 3s", took)
			}
		})
	})
	t.Run("until there is another pod", func(t *testing.T) {
		restarting(t, func(b *bubble) {
			time.AfterFunc(2*time.Second, func() { b.source.set(service("web", "b")) })
			if took := b.wantAnswer("b"); took > 2100*time.Millisecond {
				b.Errorf("took %v, want at most 2.1s", took)
			}
		})
	})
	t.Run("gives up", func(t *testing.T) {
		restarting(t, func(b *bubble) { b.wantReset(3 * time.Second) })
	})
}

// The only pod is lost before it answers. The next pod, which is added later,
// receives the client's bytes once.
func TestReachSurvivesLossOfOnlyPod(t *testing.T) {
	var received []string
	pods := map[string]behavior{
		"a": answers(func(pod *memConn) {
			_, _ = io.ReadFull(pod, make([]byte, len("GET / ")))
			pod.breakOff(unreachedError(fwd.PodGone))
		}),
		"b": answers(func(pod *memConn) {
			request := make([]byte, len("GET / HTTP"))
			_, _ = io.ReadFull(pod, request)
			received = append(received, string(request))
			_, _ = io.WriteString(pod, "ok")
		}),
	}
	inBubble(t, service("web", "a"), pods, nil, func(b *bubble) {
		client := b.connect()
		_, _ = io.WriteString(client, "GET / ")
		b.sleep(time.Second)
		_, _ = io.WriteString(client, "HTTP")
		b.set(service("web"))
		b.sleep(2 * time.Second)
		b.set(service("web", "b"))
		answer, err := io.ReadAll(client)
		if string(answer) != "ok" || err != nil || !slices.Equal(received, []string{"GET / HTTP"}) {
			t.Errorf("got answer %q, %v; the new pod received %q", answer, err, received)
		}
	})
}

func TestReachHolds(t *testing.T) {
	t.Run("until a pod is ready", func(t *testing.T) {
		inBubble(t, service("web"), map[string]behavior{"a": writes("a")}, nil, func(b *bubble) {
			time.AfterFunc(9*time.Second, func() { b.source.set(service("web", "a")) })
			b.wantAnswer("a")
		})
	})
	t.Run("for HoldTimeout", func(t *testing.T) {
		inBubble(t, service("web"), nil, func(e *fwd.Engine) { e.HoldTimeout = 7 * time.Second }, func(b *bubble) {
			b.wantReset(7 * time.Second)
		})
	})
	t.Run("not with HoldTimeout 0", func(t *testing.T) {
		inBubble(t, service("web"), map[string]behavior{"a": failsRead(fwd.PodGone)}, func(e *fwd.Engine) { e.HoldTimeout = 0 }, func(b *bubble) {
			b.wantReset(0)
			b.set(service("web", "a"))
			b.wantReset(0)
		})
	})
	t.Run("not without a service", func(t *testing.T) {
		inBubble(t, service("web"), nil, nil, func(b *bubble) {
			time.AfterFunc(2*time.Second, func() { b.source.set() })
			if _, took, err := b.ask("x"); !errors.Is(err, syscall.ECONNRESET) || took > 2100*time.Millisecond {
				t.Errorf("got %v after %v, want a reset", err, took)
			}
		})
	})
	t.Run("while the cluster is unreachable", func(t *testing.T) {
		recovers := func(attempt int) (func(*memConn), error) {
			if attempt < 6 {
				return failsDial(fwd.ClusterUnreachable)(attempt)
			}
			return writes("a")(attempt)
		}
		inBubble(t, service("web", "a"), map[string]behavior{"a": recovers}, nil, func(b *bubble) { b.wantAnswer("a") })
		inBubble(t, service("web", "a"), map[string]behavior{"a": failsDial(fwd.ClusterUnreachable)}, nil, func(b *bubble) {
			b.wantReset(10 * time.Second)
		})
	})
}

func TestReachEndsWithClient(t *testing.T) {
	for name, disconnect := range map[string]func(*memConn){
		"closed": func(c *memConn) { _ = c.Close() },
		"closed after a write": func(c *memConn) {
			_, _ = io.WriteString(c, "x")
			_ = c.Close()
		},
		"reset": func(c *memConn) { _, _ = c.SetLinger(0), c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, service("web"), map[string]behavior{"a": echoes()}, nil, func(b *bubble) {
				client := b.connect()
				b.sleep(time.Second)
				disconnect(client)
				b.sleep(time.Second)
				if !client.peer.closed.Load() {
					t.Error("the connection is still held")
				}
				b.set(service("web", "a"))
				b.sleep(time.Second)
				if attempts := b.fleet.attemptsOf("a"); attempts > 0 {
					t.Errorf("got %d attempts for a disconnected client, want 0", attempts)
				}
			})
		})
	}
}

// Until a pod has answered, up to 64 KiB from the client are kept for a retry.
func TestReachReplays(t *testing.T) {
	const limit = 64 << 10
	text := strings.Repeat("0123456789abcdef", limit/16) + "!"
	run := func(t *testing.T, size int, test func(b *bubble, client *memConn)) {
		pods := map[string]behavior{
			"a": answers(func(pod *memConn) {
				_, _ = io.ReadFull(pod, make([]byte, size))
				pod.breakOff(unreachedError(fwd.PortClosed))
			}),
			"b": answers(func(pod *memConn) {
				received := make([]byte, size)
				n, _ := io.ReadFull(pod, received)
				_, _ = pod.Write(received[:n])
			}),
		}
		inBubble(t, service("web", "a", "b"), pods, nil, func(b *bubble) { test(b, b.connect()) })
	}
	for _, size := range []int{1, 4 << 10, 5000, limit - 1, limit} {
		run(t, size, func(b *bubble, client *memConn) {
			answer, _, err := b.exchange(client, text[:size])
			if answer != text[:size] || err != nil {
				t.Errorf("sent %d bytes, got answer of %d bytes, %v", size, len(answer), err)
			}
		})
	}
	run(t, limit+1, func(b *bubble, client *memConn) {
		if _, _, err := b.exchange(client, text); !errors.Is(err, syscall.ECONNRESET) || b.fleet.attemptsOf("b") > 0 {
			t.Errorf("one byte over the limit: got %v and %d attempts to b, want a reset and 0", err, b.fleet.attemptsOf("b"))
		}
	})
	t.Run("more than the limit, before the first attempt", func(t *testing.T) {
		pods := map[string]behavior{"a": answers(func(pod *memConn) {
			received := make([]byte, len(text))
			n, _ := io.ReadFull(pod, received)
			_, _ = pod.Write(received[:n])
		})}
		inBubble(t, service("web"), pods, nil, func(b *bubble) {
			client := b.connect()
			_, _ = io.WriteString(client, text)
			b.sleep(time.Second)
			b.set(service("web", "a"))
			if answer, _, err := b.exchange(client, ""); answer != text || err != nil {
				t.Errorf("got answer of %d bytes, %v", len(answer), err)
			}
		})
	})
}

// In a rolling restart, the old pod stops listening before the cluster reports it
// as terminating, and the new pod is ready before it listens. No connection fails,
// and each is answered once.
func TestReachDuringRollingRestart(t *testing.T) {
	var answers atomic.Int32
	listens := make(map[string]*atomic.Bool)
	pods := make(map[string]behavior)
	names := strings.Split("abcdefgh", "")
	for _, name := range names {
		listens[name] = new(atomic.Bool)
		pods[name] = func(attempt int) (func(*memConn), error) {
			answers.Add(1)
			handle, err := listening(listens[name], name)(attempt)
			if !listens[name].Load() {
				answers.Add(-1)
			}
			return handle, err
		}
	}
	listens["a"].Store(true)
	listens["b"].Store(true)
	inBubble(t, service("web", "a", "b"), pods, nil, func(b *bubble) {
		var asking sync.WaitGroup
		asked := 0
		for asked < 50 { // until both have worked
			b.wantAnswer("x" + names[asked%2])
			asked++
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range len(names) - 2 {
				listens[names[i]].Store(false)
				b.sleep(300 * time.Millisecond)
				b.source.set(service("web", names[i+1]))
				b.sleep(time.Second)
				b.source.set(service("web", names[i+1], names[i+2]))
				b.sleep(500 * time.Millisecond)
				listens[names[i+2]].Store(true)
				b.sleep(time.Second)
			}
		}()
		for running := true; running; asked++ {
			select {
			case <-done:
				running = false
			case <-time.After(10 * time.Millisecond):
			}
			client := b.connect()
			asking.Go(func() {
				if answer, took, err := b.exchange(client, "x"); len(answer) != 2 || err != nil {
					b.Errorf("got answer %q, %v after %v", answer, err, took)
				}
			})
		}
		asking.Wait()
		if int(answers.Load()) != asked {
			t.Errorf("got %d answers to %d requests", answers.Load(), asked)
		}
	})
}

// A pod whose node is unreachable is retried until the end of --hold, although it
// has never answered.
func TestReachHoldsForAnUnreachableNode(t *testing.T) {
	const hold = 10 * time.Second
	inBubble(t, service("web", "a"), map[string]behavior{"a": failsDial(fwd.NodeUnreachable)}, func(e *fwd.Engine) { e.HoldTimeout = hold }, func(b *bubble) {
		b.wantReset(hold)
	})
}
