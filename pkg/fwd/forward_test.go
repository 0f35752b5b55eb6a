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

func TestForwardRotatesReadyPods(t *testing.T) {
	svc := service("web", "a", "b", "c", "d")
	svc.Endpoints[1].Ready = false
	svc.Endpoints[2].Ready, svc.Endpoints[2].Terminating = false, true
	at, _, _ := forwarding(t, tcpPods{
		"a": serve(t, sends("a")), "b": serve(t, sends("b")), "c": serve(t, sends("c")), "d": serve(t, sends("d")),
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
		t.Errorf("got answers %v, want 5 each of a and d", count)
	}
}

func TestForwardFallsBackToTerminatingPods(t *testing.T) {
	svc := service("web", "a", "b")
	svc.Endpoints[0].Ready, svc.Endpoints[0].Terminating = false, true
	svc.Endpoints[1].Ready, svc.Endpoints[1].Serving = false, false
	at, _, _ := forwarding(t, tcpPods{"a": serve(t, sends("a")), "b": serve(t, sends("b"))}, svc)
	for range 4 {
		if answer, err := ask(t, at, ""); answer != "a" || err != nil {
			t.Errorf("got answer %q, %v; want a", answer, err)
		}
	}
}

func TestForwardFailsOverToReachablePod(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	at, _, _ := forwarding(t, tcpPods{"a": gone.Addr().String(), "b": serve(t, sends("b"))}, service("web", "a", "b"))
	for range 4 {
		if answer, err := ask(t, at, ""); answer != "b" || err != nil {
			t.Errorf("got answer %q, %v; want b", answer, err)
		}
	}
}

func TestForwardResetsWithoutPods(t *testing.T) {
	at, s, _ := forwarding(t, tcpPods{"a": serve(t, sends("a"))}, service("web"))
	if _, err := ask(t, at, ""); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("without pods: got %v, want a reset", err)
	}
	svc := s.Snapshot().Services[0]
	svc.Endpoints = service("web", "a").Endpoints
	s.set(svc)
	deadline := time.Now().Add(10 * time.Second)
	for {
		if answer, err := ask(t, at, ""); err == nil && answer == "a" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the new pod never answered")
		}
	}
}

func TestForwardPropagatesResets(t *testing.T) {
	t.Run("of the pod", func(t *testing.T) {
		at, _, _ := forwarding(t, tcpPods{"a": serve(t, resets)}, service("web", "a"))
		if _, err := ask(t, at, "x"); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("client gets %v, want a reset", err)
		}
	})
	t.Run("of the client", func(t *testing.T) {
		began, ended := make(chan error, 1), make(chan error, 1)
		pod := serve(t, func(conn *net.TCPConn) {
			_, err := conn.Read(make([]byte, 1))
			began <- err
			_, err = io.ReadAll(conn)
			ended <- err // only that it ends matters: we close the TCP stream without a reset
		})
		at, _, _ := forwarding(t, tcpPods{"a": pod}, service("web", "a"))
		conn, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := <-began; err != nil { // a client that is gone before that never reaches a pod
			t.Fatal(err)
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatal("the pod's connection never ended")
		}
	})
}

func TestForwardResetAffectsOneConnection(t *testing.T) {
	echo := serve(t, func(conn *net.TCPConn) { _, _ = io.Copy(conn, conn) })
	at, _, _ := forwarding(t, tcpPods{"a": echo, "b": serve(t, resets)}, service("web", "a", "b"))
	sibling, err := net.Dial("tcp", at) // goes to a
	if err != nil {
		t.Fatal(err)
	}
	defer sibling.Close()
	echoHello := func() {
		t.Helper()
		buf := make([]byte, 5)
		_, _ = io.WriteString(sibling, "hello")
		if _, err := io.ReadFull(sibling, buf); err != nil {
			t.Fatal(err)
		}
	}
	echoHello()
	if _, err := ask(t, at, "x"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("client of b gets %v, want a reset", err)
	}
	echoHello()
}

func TestForwardDrains(t *testing.T) {
	finish := make(chan struct{})
	pod := serve(t, func(conn *net.TCPConn) {
		_, _ = io.WriteString(conn, "first ")
		<-finish
		_, _ = io.WriteString(conn, "second")
	})
	open := func(t *testing.T) (net.Conn, func() error) {
		at, _, stop := forwarding(t, tcpPods{"a": pod}, service("web", "a"))
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
	t.Run("a connection that does not end is reset", func(t *testing.T) {
		conn, stop := open(t)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(conn); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("client gets %v, want a reset", err)
		}
	})
	t.Run("a connection that ends in time is not", func(t *testing.T) {
		conn, stop := open(t)
		stopped := make(chan error, 1)
		go func() { stopped <- stop() }()
		awaitRefused(t, conn.RemoteAddr().String())
		close(finish)
		if answer, err := io.ReadAll(conn); string(answer) != "second" || err != nil {
			t.Errorf("got answer %q, %v; want second", answer, err)
		}
		_ = conn.Close()
		if err := <-stopped; err != nil {
			t.Fatal(err)
		}
	})
}

// awaitRefused waits until connections to the address are refused.
func awaitRefused(t *testing.T, at string) {
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

// Large amounts of data go both ways, before and after the pod has answered.
func TestForwardCarriesLargeData(t *testing.T) {
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	for name, pod := range map[string]func(*net.TCPConn){
		"the pod echoes while it reads": func(conn *net.TCPConn) { _, _ = io.CopyN(conn, conn, int64(len(sent))) },
		"the pod reads everything first": func(conn *net.TCPConn) {
			received := make([]byte, len(sent))
			n, _ := io.ReadFull(conn, received)
			_, _ = conn.Write(received[:n])
		},
		"the pod writes everything first": func(conn *net.TCPConn) {
			_, _ = conn.Write(sent)
			_, _ = io.CopyN(io.Discard, conn, int64(len(sent)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			at, _, _ := forwarding(t, tcpPods{"a": serve(t, pod)}, service("web", "a"))
			conn, err := net.Dial("tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			var writing sync.WaitGroup
			writing.Go(func() { _, _ = conn.Write(sent) })
			answer, err := io.ReadAll(conn)
			if !bytes.Equal(answer, sent) || err != nil {
				t.Errorf("sent %d bytes, got answer of %d bytes, %v", len(sent), len(answer), err)
			}
			_ = conn.Close()
			writing.Wait()
		})
	}
}
