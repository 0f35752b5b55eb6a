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
	closedPort      = 7999             // in the Service of a peer, but not open in the pod
	exchangeTimeout = 30 * time.Second // for all exchanges on one connection
	endless         = 1 << 62
	neverSent       = "never sent" // by a peer: waits for the end of a connection
	download        = 64 << 20     // more than the buffers between a pod and its client hold
)

// readyWhenListening is a field of a peer's container: a readiness probe that
// checks whether the peer is listening.
var readyWhenListening = fmt.Sprintf("readinessProbe: {tcpSocket: {port: %d}, periodSeconds: 1}", peer.HTTP)

// peerPod returns a pod of package peer with a Service of the same name, which
// has all of its ports and closedPort. fields are additional fields of the
// container.
func peerPod(namespace, name, fields string) string {
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
spec: {selector: {app: %[2]s}, ports: [%[4]s]}`, namespace, name, fields, ports.String())
}

// namespaceWithPeer creates a namespace with a ready peer, and returns it and
// the peer's host name.
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

// openConn connects to a port of a service and sends data. The connection
// stays open until the test ends.
func openConn(t *testing.T, host string, port uint16, send string) *net.TCPConn {
	t.Helper()
	conn, err := connect(host, port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, send); err != nil {
		t.Fatal(err)
	}
	return conn
}

// openDownload starts a download of n bytes and waits for the first byte.
func openDownload(t *testing.T, host string, n int64) *net.TCPConn {
	t.Helper()
	conn := openConn(t, host, peer.Source, fmt.Sprintf("%d\n", n))
	if _, err := exchange(conn, "", "\x00"); err != nil {
		t.Fatal(err)
	}
	return conn
}

// exchange sends data, checks the response, and returns how long that took.
func exchange(conn net.Conn, send, want string) (time.Duration, error) {
	begin := time.Now()
	if _, err := io.WriteString(conn, send); err != nil {
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

// request runs one exchange over a new connection.
func request(host string, port uint16, send, want string) (time.Duration, error) {
	begin := time.Now()
	conn, err := connect(host, port)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := exchange(conn, send, want); err != nil {
		return 0, fmt.Errorf("port %d: %w", port, err)
	}
	return time.Since(begin), nil
}

// concurrently calls do n times at once. It returns the longest duration and
// the errors.
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
		err = fmt.Errorf("%d of %d failed, first error: %w", len(errs), n, errs[0])
	}
	return slowest, err
}

// source is the data that a peer's Source sends.
type source struct{ sent int64 }

func (s *source) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte((s.sent + int64(i)) % 251)
	}
	s.sent += int64(len(p))
	return len(p), nil
}

// receive reads the remaining bytes of a download of n bytes, of which before
// bytes were read earlier, and checks that they are right and the end is a
// close.
func receive(r io.Reader, before, n int64) error {
	got, want := sha256.New(), sha256.New()
	received, err := io.Copy(got, r)
	if err == nil && before+received != n {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("after %d of %d bytes: %w", before+received, n, err)
	}
	if _, err := io.CopyN(want, &source{sent: n - received}, received); err != nil {
		return err
	}
	if string(got.Sum(nil)) != string(want.Sum(nil)) {
		return errors.New("received bytes differ from the sent ones")
	}
	return nil
}

// countOpenInPod returns the number of open connections to a port of a peer.
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

// connectionEnd connects to a port, sends data, and returns the error that
// ends the connection and how long that took. The peer must not respond.
func connectionEnd(host string, port uint16, send string) (time.Duration, error) {
	begin := time.Now()
	conn, err := connect(host, port)
	if err == nil {
		defer conn.Close()
		_, err = exchange(conn, send, neverSent)
	}
	return time.Since(begin), err
}

// checkOpenInPod returns an error if the number of open connections to a port
// of a peer isn't want.
func checkOpenInPod(host string, port uint16, want int) error {
	got, err := countOpenInPod(host, port)
	if err == nil && got != want {
		err = fmt.Errorf("got %d open connections, want %d", got, want)
	}
	return err
}
