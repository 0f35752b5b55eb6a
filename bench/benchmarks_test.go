package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/internal/backoff"
	"github.com/kubeshore/kubeshore/test/netem"
	"github.com/kubeshore/kubeshore/test/peer"
)

// direct is a forwarder that connects directly to the peer's ports, or to
// listeners of the test. Its process is the test.
type direct struct {
	title       string
	addresses   map[uint16]string
	stopErr     error    // returned by stop
	kubeconfigs []string // of each start
}

func (d *direct) name() string { return d.title }
func (d *direct) start(_ context.Context, to target) error {
	d.kubeconfigs = append(d.kubeconfigs, to.kubeconfig)
	return nil
}

func (d *direct) dial(ctx context.Context, port uint16) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", d.addresses[port])
}
func (d *direct) pid() int    { return os.Getpid() }
func (d *direct) stop() error { return d.stopErr }

// listeners returns a listener for each port of the peer, and a forwarder to
// them.
func listeners(t *testing.T) (map[uint16]net.Listener, *direct) {
	t.Helper()
	all, f := make(map[uint16]net.Listener), &direct{title: "direct", addresses: make(map[uint16]string)}
	for _, port := range peer.Ports() {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		all[port], f.addresses[port] = l, l.Addr().String()
	}
	return all, f
}

// startPeer returns a forwarder to a peer that runs until the test ends.
func startPeer(t *testing.T) *direct {
	t.Helper()
	all, f := listeners(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- peer.Serve(ctx, all) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return f
}

// minimalEffort returns the smallest useful effort.
func minimalEffort() effort {
	return effort{
		bytes: 1e6, rateWindow: 20 * time.Millisecond, samples: 2, bursts: 2, idleConns: 8,
		sampleInterval: time.Millisecond, settleDelay: 50 * time.Millisecond, hangTimeout: 100 * time.Millisecond, benchTimeout: 5 * time.Second,
	}
}

func requireProc(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("no /proc")
	}
}

func TestBenchmarksReturnResults(t *testing.T) {
	requireProc(t)
	f := startPeer(t)
	e := minimalEffort()
	e.hangTimeout = 10 * time.Second // the machine may be busy
	for _, b := range benchmarks() {
		t.Run(b.name, func(t *testing.T) {
			results := b.run(t.Context(), f, e)
			if len(results) != len(b.metrics) {
				t.Fatalf("got %d results, want %d", len(results), len(b.metrics))
			}
			for i, o := range results {
				if o.err != nil || o.value < 0 || o.value == 0 && b.metrics[i].unit != "s/GB" {
					t.Errorf("%s: got %v, %v; want a positive value", b.metrics[i].title, o.value, o.err)
				}
			}
		})
	}
}

// A forwarder that accepts connections and never answers delays a benchmark by
// no more than its timeout.
func TestBenchmarksTimeOutWithoutResponse(t *testing.T) {
	requireProc(t)
	all, f := listeners(t)
	var accepting sync.WaitGroup
	for _, l := range all {
		accepting.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				t.Cleanup(func() { _ = conn.Close() })
			}
		})
	}
	defer func() {
		for _, l := range all {
			_ = l.Close()
		}
		accepting.Wait()
	}()
	for _, b := range benchmarks() {
		t.Run(b.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			last := b.run(ctx, f, minimalEffort())
			if o := last[len(last)-1]; !timedOut(o.err) {
				t.Errorf("got %v, %v; want a timeout", o.value, o.err)
			}
		})
	}
}

func TestBenchmarksFailWhenConnectionsAreRefused(t *testing.T) {
	all, f := listeners(t)
	for _, l := range all {
		_ = l.Close()
	}
	for _, b := range benchmarks() {
		last := b.run(t.Context(), f, minimalEffort())
		if o := last[len(last)-1]; o.err == nil || timedOut(o.err) {
			t.Errorf("%s: got %v, %v; want an error other than a timeout", b.name, o.value, o.err)
		}
	}
}

func TestSelectBenchmarksByName(t *testing.T) {
	var names strings.Builder
	for _, b := range selectBenchmarks(regexp.MustCompile("^cold/|memory")) {
		names.WriteString(b.name + " ")
	}
	const want = "cold/near/server cold/near/client cold/far/server cold/far/client memory "
	if got := names.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// The forwarders take turns, benchmarks with a round trip use the slow
// kubeconfig, and a forwarder that fails doesn't keep the others from being
// measured.
func TestForwardersTakeTurns(t *testing.T) {
	var order []string
	a, b := &direct{title: "a"}, &direct{title: "b", stopErr: errExited}
	count := func(_ context.Context, f forwarder, _ effort) []result {
		order = append(order, f.name())
		if f.name() == "b" {
			return []result{{err: io.ErrUnexpectedEOF}}
		}
		return measured(float64(len(order)), 1)
	}
	s := &testbed{target: target{kubeconfig: "near"}, slowKubeconfig: "far", proxy: netem.New("", 0), effort: minimalEffort()}
	var log strings.Builder
	got, err := s.runBenchmarks(t.Context(), []forwarder{a, b}, []benchmark{
		{name: "one", run: count, metrics: []metric{{"first", "ms", false}, {"second", "ms", false}}},
		{name: "two", run: count, roundTrip: farRoundTrip, metrics: []metric{{"third", "1/s", true}, {"fourth", "1/s", true}}},
	}, 3, &log)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, ""); got != "ababbabaabab" {
		t.Errorf("got order %s, want ababbabaabab", got)
	}
	if got := strings.Join(a.kubeconfigs, " "); got != "near far near far near far" {
		t.Errorf("got kubeconfigs %s, want near and far in turn", got)
	}
	for i, want := range []float64{6, 1, 8, 1} { // the median of 1, 6, 9; of 3, 8, 11
		ours, theirs := got.rows[i].cells[0], got.rows[i].cells[1]
		if m, ok := ours.median(); !ok || m != want {
			t.Errorf("row %d: got median %v, %v; want %v", i, m, ok, want)
		}
		if theirs.text() != "fails" {
			t.Errorf("row %d of b: got %s, want fails", i, theirs.text())
		}
	}
	if !strings.Contains(log.String(), errExited.Error()) {
		t.Errorf("got log\n%s\nwant it to contain %q", log.String(), errExited)
	}
}

func TestRunBenchmarksStopsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := &testbed{proxy: netem.New("", 0), effort: minimalEffort()}
	_, err := s.runBenchmarks(ctx, []forwarder{&direct{}}, []benchmark{{run: func(ctx context.Context, _ forwarder, _ effort) []result {
		cancel()
		return []result{{err: backoff.Sleep(ctx, time.Hour)}}
	}, metrics: make([]metric, 1)}}, 2, io.Discard)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}
