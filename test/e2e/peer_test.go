//go:build e2e

package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/test/peer"
)

const (
	closedPort      = 7999             // in a peer's Service, and nobody listens there
	exchangeTimeout = 30 * time.Second // for all that is asked over one connection
	endless         = 1 << 62
	download        = 64 << 20 // more than all that is between a pod and its client holds
)

// readyWhenListening is what a peer's container has besides: it is ready when it listens.
var readyWhenListening = fmt.Sprintf("readinessProbe: {tcpSocket: {port: %d}, periodSeconds: 1}", peer.HTTP)

// peerPod returns a pod of package peer with a Service of the same name, which
// has all of its ports and closedPort. The container has further fields.
func peerPod(namespace, name, further string) string {
	var ports strings.Builder
	for _, port := range append(peer.Ports(), closedPort) {
		fmt.Fprintf(&ports, "{name: p%[1]d, port: %[1]d}, ", port)
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %[2]s, namespace: %[1]s, labels: {app: %[2]s}}
spec: {automountServiceAccountToken: false, terminationGracePeriodSeconds: 1, containers: [{
  name: peer, image: "kubeshore.test/peer:1", imagePullPolicy: IfNotPresent, %[3]s}]}
---
apiVersion: v1
kind: Service
metadata: {name: %[2]s, namespace: %[1]s}
spec: {selector: {app: %[2]s}, ports: [%[4]s]}`, namespace, name, further, ports.String())
}

// namespaceWithPeer makes a namespace with a peer that is ready, and returns it and the
// peer's name.
func namespaceWithPeer(t *testing.T) (ns, host string) {
	t.Helper()
	ns = newNamespace(t)
	apply(t, peerPod(ns, "peer", readyWhenListening))
	waitForReadyPods(t, ns, "peer", 1)
	return ns, "peer." + ns
}

// connect connects to a port of a service.
func connect(host string, port uint16) (*net.TCPConn, error) {
	address, err := resolve(host)
	if err != nil {
		return nil, err
	}
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(address, strconv.Itoa(int(port))), conditionTimeout)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), conn.SetDeadline(time.Now().Add(exchangeTimeout))
}

// openConn connects to a port of a service for the rest of the test, and says
// something there.
func openConn(t *testing.T, host string, port uint16, say string) *net.TCPConn {
	t.Helper()
	conn, err := connect(host, port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, say); err != nil {
		t.Fatal(err)
	}
	return conn
}

// openDownload asks for n bytes and waits for the first.
func openDownload(t *testing.T, host string, n int64) *net.TCPConn {
	t.Helper()
	conn := openConn(t, host, peer.Source, fmt.Sprintf("%d\n", n))
	if _, err := exchange(conn, "", "\x00"); err != nil {
		t.Fatal(err)
	}
	return conn
}

// exchange says something and checks what comes next. It returns how long that
// took.
func exchange(conn net.Conn, say, want string) (time.Duration, error) {
	begin := time.Now()
	if _, err := io.WriteString(conn, say); err != nil {
		return 0, err
	}
	got := make([]byte, len(want))
	if n, err := io.ReadFull(conn, got); err != nil {
		return 0, fmt.Errorf("got %q, want %q: %w", got[:n], want, err)
	}
	if string(got) != want {
		return 0, fmt.Errorf("got %q, want %q", got, want)
	}
	return time.Since(begin), nil
}

// request has one exchange over a connection of its own.
func request(host string, port uint16, say, want string) (time.Duration, error) {
	begin := time.Now()
	conn, err := connect(host, port)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := exchange(conn, say, want); err != nil {
		return 0, fmt.Errorf("port %d: %w", port, err)
	}
	return time.Since(begin), nil
}

// concurrently does something n times at the same time. It returns how long the
// slowest took, and what went wrong.
func concurrently(n int, do func(i int) (time.Duration, error)) (slowest time.Duration, err error) {
	took, errs := make([]time.Duration, n), make([]error, n)
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() { took[i], errs[i] = do(i) })
	}
	running.Wait()
	for _, d := range took {
		slowest = max(slowest, d)
	}
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) > 0 {
		err = fmt.Errorf("%d of %d, the first: %w", len(errs), n, errs[0])
	}
	return slowest, err
}

// source is what a peer's Source sends.
type source struct{ sent int64 }

func (s *source) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte((s.sent + int64(i)) % 251)
	}
	s.sent += int64(len(p))
	return len(p), nil
}

// receive reads what is left of n bytes of Source, of which some have been
// read before, and the end in good order.
func receive(r io.Reader, before, n int64) error {
	got, want := sha256.New(), sha256.New()
	received, err := io.Copy(got, r)
	if err == nil && before+received != n {
		err = errors.New("the end")
	}
	if err != nil {
		return fmt.Errorf("after %d of %d bytes: %w", before+received, n, err)
	}
	if _, err := io.CopyN(want, &source{sent: n - received}, received); err != nil {
		return err
	}
	if string(got.Sum(nil)) != string(want.Sum(nil)) {
		return errors.New("the bytes are others than those that were sent")
	}
	return nil
}

// countOpenInPod returns how many connections a port of a peer has open.
func countOpenInPod(host string, port uint16) (int, error) {
	conn, err := connect(host, peer.HTTP)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	}}
	resp, err := client.Get("http://" + host + "/connections")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	count := make(map[string]int)
	if err := json.NewDecoder(resp.Body).Decode(&count); err != nil {
		return 0, err
	}
	return count[strconv.Itoa(int(port))], nil
}

// connectionEnd connects to a port, says something, and returns what the connection
// ends with and how long that took. Nothing must be answered.
func connectionEnd(host string, port uint16, say string) (time.Duration, error) {
	begin := time.Now()
	conn, err := connect(host, port)
	if err == nil {
		defer conn.Close()
		_, err = exchange(conn, say, "an end")
	}
	return time.Since(begin), err
}

// checkOpenInPod says what is wrong if that many are not open.
func checkOpenInPod(host string, port uint16, want int) error {
	got, err := countOpenInPod(host, port)
	if err == nil && got != want {
		err = fmt.Errorf("%d connections are open, not %d", got, want)
	}
	return err
}
