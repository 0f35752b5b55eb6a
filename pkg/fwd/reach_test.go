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

// listening is a pod that refuses until the flag is set, and then says a text
// that begins with what it heard.
func listening(up *atomic.Bool, text string) behaviour {
	return func(int) (func(*memory), error) {
		if !up.Load() {
			return refuses(fwd.PortClosed)(0)
		}
		return func(pod *memory) {
			heard := make([]byte, 1)
			n, _ := pod.Read(heard)
			_, _ = io.WriteString(pod, string(heard[:n])+text)
		}, nil
	}
}

func TestReachTakesAnotherPod(t *testing.T) {
	for _, why := range []fwd.Reason{fwd.PodGone, fwd.PortClosed} {
		for name, broken := range map[string]behaviour{"dial": fails(why), "stream": refuses(why)} {
			t.Run(name, func(t *testing.T) {
				inBubble(t, service("web", "a", "b"), map[string]behaviour{"a": broken, "b": speaks("b")}, nil, func(b *bubble) {
					for range 4 {
						if took := b.wantAnswer("b"); took > 0 {
							t.Errorf("it took %v", took)
						}
					}
				})
			})
		}
	}
}

func TestReachGivesUpAtOnce(t *testing.T) {
	other := errors.New("the server says <html>")
	for name, c := range map[string]struct {
		broken behaviour
		tries  int // of both pods
	}{
		"all refuse":        {refuses(fwd.PortClosed), 2},
		"denied":            {fails(fwd.Denied), 1},
		"an ordinary error": {func(int) (func(*memory), error) { return nil, other }, 1},
		"a process was met": {answers(func(pod *memory) { pod.breakOff(other) }), 1},
		"an answer was seen": {answers(func(pod *memory) {
			_, _ = io.WriteString(pod, "x")
			_, _ = pod.Read(make([]byte, 1))
			pod.breakOff(other)
		}), 1},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, service("web", "a", "b"), map[string]behaviour{"a": c.broken, "b": c.broken}, nil, func(b *bubble) {
				b.wantReset(0)
				if tries := b.fleet.tried("a") + b.fleet.tried("b"); tries != c.tries {
					t.Errorf("%d tries, want %d", tries, c.tries)
				}
			})
		})
	}
}

// A pod that has just become ready may not listen yet.
func TestReachTriesAFreshPodAgain(t *testing.T) {
	var up atomic.Bool
	inBubble(t, service("web"), map[string]behaviour{"a": listening(&up, "a")}, nil, func(b *bubble) {
		b.set(service("web", "a"))
		time.AfterFunc(4*time.Second, func() { up.Store(true) })
		if took := b.wantAnswer("xa"); took < 4*time.Second || took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
		if tries := b.fleet.tried("a"); tries > 10 {
			t.Errorf("%d tries in 4 s", tries)
		}
	})
	t.Run("not for ever", func(t *testing.T) {
		var never atomic.Bool
		inBubble(t, service("web"), map[string]behaviour{"a": listening(&never, "a")}, nil, func(b *bubble) {
			b.set(service("web", "a"))
			began := time.Now()
			if _, _, err := b.ask("x"); !errors.Is(err, syscall.ECONNRESET) || time.Since(began) > 11*time.Second {
				t.Errorf("%v after %v", err, time.Since(began))
			}
			b.wantReset(0)
		})
	})
	t.Run("of a host that appears later", func(t *testing.T) {
		var late atomic.Bool
		inBubble(t, service("other"), map[string]behaviour{"a": listening(&late, "a")}, nil, func(b *bubble) {
			b.set(service("web", "a"))
			time.AfterFunc(time.Second, func() { late.Store(true) })
			b.wantAnswer("xa")
		})
	})
}

// A pod that has worked and refuses is about to go, or starts anew.
func TestReachWaitsForWhatWorkedBefore(t *testing.T) {
	var up atomic.Bool
	restarting := func(t *testing.T, test func(b *bubble)) {
		t.Helper()
		up.Store(true)
		pods := map[string]behaviour{"a": listening(&up, "a"), "b": speaks("b")}
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
				b.Errorf("it took %v", took)
			}
		})
	})
	t.Run("until there is another", func(t *testing.T) {
		restarting(t, func(b *bubble) {
			time.AfterFunc(2*time.Second, func() { b.source.set(service("web", "b")) })
			if took := b.wantAnswer("b"); took > 2100*time.Millisecond {
				b.Errorf("it took %v", took)
			}
		})
	})
	t.Run("not for ever", func(t *testing.T) {
		restarting(t, func(b *bubble) { b.wantReset(3 * time.Second) })
	})
}

// The only pod is lost, and the next one comes later: what the client has said
// goes to that, once.
func TestReachSurvivesTheLossOfTheOnlyPod(t *testing.T) {
	var heard []string
	pods := map[string]behaviour{
		"a": answers(func(pod *memory) {
			_, _ = io.ReadFull(pod, make([]byte, len("GET / ")))
			pod.breakOff(unreached(fwd.PodGone))
		}),
		"b": answers(func(pod *memory) {
			request := make([]byte, len("GET / HTTP"))
			_, _ = io.ReadFull(pod, request)
			heard = append(heard, string(request))
			_, _ = io.WriteString(pod, "ok")
		}),
	}
	inBubble(t, service("web", "a"), pods, nil, func(b *bubble) {
		client := b.connect()
		_, _ = io.WriteString(client, "GET / ")
		b.after(time.Second)
		_, _ = io.WriteString(client, "HTTP")
		b.set(service("web"))
		b.after(2 * time.Second)
		b.set(service("web", "b"))
		answer, err := io.ReadAll(client)
		if string(answer) != "ok" || err != nil || !slices.Equal(heard, []string{"GET / HTTP"}) {
			t.Errorf("answer %q, %v; the new pod heard %q", answer, err, heard)
		}
	})
}

func TestReachHolds(t *testing.T) {
	t.Run("until a pod is ready", func(t *testing.T) {
		inBubble(t, service("web"), map[string]behaviour{"a": speaks("a")}, nil, func(b *bubble) {
			time.AfterFunc(9*time.Second, func() { b.source.set(service("web", "a")) })
			b.wantAnswer("a")
		})
	})
	t.Run("as long as it was told", func(t *testing.T) {
		inBubble(t, service("web"), nil, func(e *fwd.Engine) { e.Hold = 7 * time.Second }, func(b *bubble) {
			b.wantReset(7 * time.Second)
		})
	})
	t.Run("not at all", func(t *testing.T) {
		inBubble(t, service("web"), map[string]behaviour{"a": refuses(fwd.PodGone)}, func(e *fwd.Engine) { e.Hold = 0 }, func(b *bubble) {
			b.wantReset(0)
			b.set(service("web", "a"))
			b.wantReset(0)
		})
	})
	t.Run("not without a service", func(t *testing.T) {
		inBubble(t, service("web"), nil, nil, func(b *bubble) {
			time.AfterFunc(2*time.Second, func() { b.source.set() })
			if _, took, err := b.ask("x"); !errors.Is(err, syscall.ECONNRESET) || took > 2100*time.Millisecond {
				t.Errorf("%v after %v", err, took)
			}
		})
	})
	t.Run("while the cluster is away", func(t *testing.T) {
		back := func(try int) (func(*memory), error) {
			if try < 6 {
				return fails(fwd.ClusterAway)(try)
			}
			return speaks("a")(try)
		}
		inBubble(t, service("web", "a"), map[string]behaviour{"a": back}, nil, func(b *bubble) { b.wantAnswer("a") })
		inBubble(t, service("web", "a"), map[string]behaviour{"a": fails(fwd.ClusterAway)}, nil, func(b *bubble) {
			b.wantReset(10 * time.Second)
		})
	})
}

func TestReachEndsWithTheClient(t *testing.T) {
	for name, leave := range map[string]func(*memory){
		"closed": func(c *memory) { _ = c.Close() },
		"closed after some words": func(c *memory) {
			_, _ = io.WriteString(c, "x")
			_ = c.Close()
		},
		"reset": func(c *memory) { _, _ = c.SetLinger(0), c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, service("web"), map[string]behaviour{"a": echoes()}, nil, func(b *bubble) {
				client := b.connect()
				b.after(time.Second)
				leave(client)
				b.after(time.Second)
				if !client.peer.closed.Load() {
					t.Error("the connection is still held")
				}
				b.set(service("web", "a"))
				b.after(time.Second)
				if tries := b.fleet.tried("a"); tries > 0 {
					t.Errorf("%d tries for a client that has gone", tries)
				}
			})
		})
	}
}

// What the client says is kept as long as no pod has answered, to 64 KiB.
func TestReachRepeats(t *testing.T) {
	const most = 64 << 10
	text := strings.Repeat("0123456789abcdef", most/16) + "!"
	run := func(t *testing.T, size int, test func(b *bubble, client *memory)) {
		pods := map[string]behaviour{
			"a": answers(func(pod *memory) {
				_, _ = io.ReadFull(pod, make([]byte, size))
				pod.breakOff(unreached(fwd.PortClosed))
			}),
			"b": answers(func(pod *memory) {
				heard := make([]byte, size)
				n, _ := io.ReadFull(pod, heard)
				_, _ = pod.Write(heard[:n])
			}),
		}
		inBubble(t, service("web", "a", "b"), pods, nil, func(b *bubble) { test(b, b.connect()) })
	}
	for _, size := range []int{1, 4 << 10, 5000, most - 1, most} {
		run(t, size, func(b *bubble, client *memory) {
			answer, _, err := b.hear(client, text[:size])
			if answer != text[:size] || err != nil {
				t.Errorf("%d bytes: answer of %d, %v", size, len(answer), err)
			}
		})
	}
	run(t, most+1, func(b *bubble, client *memory) {
		if _, _, err := b.hear(client, text); !errors.Is(err, syscall.ECONNRESET) || b.fleet.tried("b") > 0 {
			t.Errorf("one byte more: %v, %d tries of b", err, b.fleet.tried("b"))
		}
	})
	t.Run("and more, if all of it waits", func(t *testing.T) {
		pods := map[string]behaviour{"a": answers(func(pod *memory) {
			heard := make([]byte, len(text))
			n, _ := io.ReadFull(pod, heard)
			_, _ = pod.Write(heard[:n])
		})}
		inBubble(t, service("web"), pods, nil, func(b *bubble) {
			client := b.connect()
			_, _ = io.WriteString(client, text)
			b.after(time.Second)
			b.set(service("web", "a"))
			if answer, _, err := b.hear(client, ""); answer != text || err != nil {
				t.Errorf("answer of %d bytes, %v", len(answer), err)
			}
		})
	})
}

// Pods are replaced one by one, as a rolling restart does it: the old one stops
// listening before the cluster says that it ends, and the new one is ready
// before it listens. No connection fails, and each is answered once.
func TestReachThroughARollingRestart(t *testing.T) {
	var answers atomic.Int32
	listens := make(map[string]*atomic.Bool)
	pods := make(map[string]behaviour)
	names := strings.Split("abcdefgh", "")
	for _, name := range names {
		listens[name] = new(atomic.Bool)
		pods[name] = func(try int) (func(*memory), error) {
			answers.Add(1)
			handle, err := listening(listens[name], name)(try)
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
		for asked < 50 { // so that both have worked
			b.wantAnswer("x" + names[asked%2])
			asked++
		}
		over := make(chan struct{})
		go func() {
			defer close(over)
			for i := range len(names) - 2 {
				listens[names[i]].Store(false)
				b.after(300 * time.Millisecond)
				b.source.set(service("web", names[i+1]))
				b.after(time.Second)
				b.source.set(service("web", names[i+1], names[i+2]))
				b.after(500 * time.Millisecond)
				listens[names[i+2]].Store(true)
				b.after(time.Second)
			}
		}()
		for running := true; running; asked++ {
			select {
			case <-over:
				running = false
			case <-time.After(10 * time.Millisecond):
			}
			client := b.connect()
			asking.Go(func() {
				if answer, took, err := b.hear(client, "x"); len(answer) != 2 || err != nil {
					b.Errorf("answer %q, %v after %v", answer, err, took)
				}
			})
		}
		asking.Wait()
		if int(answers.Load()) != asked {
			t.Errorf("%d answers to %d questions", answers.Load(), asked)
		}
	})
}
