package fwd_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestForwardTakesReadyPodsInTurn(t *testing.T) {
	svc := service("web", "a", "b", "c", "d")
	svc.Endpoints[1].Ready = false
	svc.Endpoints[2].Ready, svc.Endpoints[2].Terminating = false, true
	at, _, _ := forwarding(t, pods{
		"a": serve(t, says("a")), "b": serve(t, says("b")), "c": serve(t, says("c")), "d": serve(t, says("d")),
	}, svc)
	count := make(map[string]int)
	for range 10 {
		answer, err := ask(t, at, "")
		if err != nil {
			t.Fatal(err)
		}
		count[answer]++
	}
	if count["a"] != 5 || count["d"] != 5 {
		t.Errorf("answers %v, want five of a and of d", count)
	}
}

func TestForwardTakesTerminatingPodsIfThereAreNoOthers(t *testing.T) {
	svc := service("web", "a", "b")
	svc.Endpoints[0].Ready, svc.Endpoints[0].Terminating = false, true
	svc.Endpoints[1].Ready, svc.Endpoints[1].Serving = false, false
	at, _, _ := forwarding(t, pods{"a": serve(t, says("a")), "b": serve(t, says("b"))}, svc)
	for range 4 {
		if answer, err := ask(t, at, ""); answer != "a" || err != nil {
			t.Errorf("answer %q, %v", answer, err)
		}
	}
}

func TestForwardGoesOnToAPodThatCanBeReached(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	at, _, _ := forwarding(t, pods{"a": gone.Addr().String(), "b": serve(t, says("b"))}, service("web", "a", "b"))
	for range 4 {
		if answer, err := ask(t, at, ""); answer != "b" || err != nil {
			t.Errorf("answer %q, %v", answer, err)
		}
	}
}

func TestForwardResetsWhereThereIsNoPod(t *testing.T) {
	at, s, _ := forwarding(t, pods{"a": serve(t, says("a"))}, service("web"))
	if _, err := ask(t, at, ""); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("without pods: %v, want a reset", err)
	}
	svc := s.Snapshot().Services[0]
	svc.Endpoints = service("web", "a").Endpoints
	s.set(svc)
	deadline := time.Now().Add(10 * time.Second)
	for {
		if answer, err := ask(t, at, ""); err == nil && answer == "a" {
			return // the port was there all the time, and the pod is now
		}
		if time.Now().After(deadline) {
			t.Fatal("the new pod never answers")
		}
	}
}

func TestForwardPassesOnResets(t *testing.T) {
	t.Run("of the pod", func(t *testing.T) {
		at, _, _ := forwarding(t, pods{"a": serve(t, resets)}, service("web", "a"))
		if _, err := ask(t, at, "x"); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the client gets %v, want a reset", err)
		}
	})
	t.Run("of the client", func(t *testing.T) {
		ended := make(chan error, 1)
		pod := serve(t, func(conn *net.TCPConn) {
			_, err := io.ReadAll(conn)
			ended <- err // that it ends is what counts: a TCP stream closed by us ends without a reset
		})
		at, _, _ := forwarding(t, pods{"a": pod}, service("web", "a"))
		conn, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatal("the pod's connection never ends")
		}
	})
}

func TestForwardOneFaultIsOneConnections(t *testing.T) {
	echo := serve(t, func(conn *net.TCPConn) { _, _ = io.Copy(conn, conn) })
	at, _, _ := forwarding(t, pods{"a": echo, "b": serve(t, resets)}, service("web", "a", "b"))
	sibling, err := net.Dial("tcp", at) // goes to a
	if err != nil {
		t.Fatal(err)
	}
	defer sibling.Close()
	say := func() {
		t.Helper()
		buf := make([]byte, 5)
		_, _ = io.WriteString(sibling, "hello")
		if _, err := io.ReadFull(sibling, buf); err != nil {
			t.Fatal(err)
		}
	}
	say()
	if _, err := ask(t, at, "x"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client of b gets %v, want a reset", err)
	}
	say()
}

func TestForwardDrains(t *testing.T) {
	finish := make(chan struct{})
	pod := serve(t, func(conn *net.TCPConn) {
		_, _ = io.WriteString(conn, "first ")
		<-finish
		_, _ = io.WriteString(conn, "second")
	})
	open := func(t *testing.T) (net.Conn, func() error) {
		at, _, stop := forwarding(t, pods{"a": pod}, service("web", "a"))
		conn, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := io.ReadFull(conn, make([]byte, 6)); err != nil {
			t.Fatal(err)
		}
		return conn, stop
	}
	t.Run("what doesn't end is reset", func(t *testing.T) {
		conn, stop := open(t)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(conn); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the client gets %v, want a reset", err)
		}
	})
	t.Run("what ends in time is not", func(t *testing.T) {
		conn, stop := open(t)
		stopped := make(chan error, 1)
		go func() { stopped <- stop() }()
		refused(t, conn.RemoteAddr().String())
		close(finish)
		if answer, err := io.ReadAll(conn); string(answer) != "second" || err != nil {
			t.Errorf("answer %q, %v", answer, err)
		}
		_ = conn.Close()
		if err := <-stopped; err != nil {
			t.Fatal(err)
		}
	})
}

// refused waits until nothing accepts there.
func refused(t *testing.T, at string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		conn, err := net.Dial("tcp", at)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return
		}
		if err == nil {
			_ = conn.Close()
		}
	}
	t.Fatalf("%s still accepts", at)
}

// Much goes both ways, before and after the pod has said anything.
func TestForwardCarriesMuch(t *testing.T) {
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	for name, pod := range map[string]func(*net.TCPConn){
		"the pod answers as it hears": func(conn *net.TCPConn) { _, _ = io.CopyN(conn, conn, int64(len(sent))) },
		"the pod hears all first": func(conn *net.TCPConn) {
			heard := make([]byte, len(sent))
			n, _ := io.ReadFull(conn, heard)
			_, _ = conn.Write(heard[:n])
		},
		"the pod says all first": func(conn *net.TCPConn) {
			_, _ = conn.Write(sent)
			_, _ = io.CopyN(io.Discard, conn, int64(len(sent)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			at, _, _ := forwarding(t, pods{"a": serve(t, pod)}, service("web", "a"))
			conn, err := net.Dial("tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			var writing sync.WaitGroup
			writing.Go(func() { _, _ = conn.Write(sent) })
			answer, err := io.ReadAll(conn)
			if !bytes.Equal(answer, sent) || err != nil {
				t.Errorf("%d bytes sent, %d answered, %v", len(sent), len(answer), err)
			}
			_ = conn.Close()
			writing.Wait()
		})
	}
}
