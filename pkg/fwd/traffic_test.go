package fwd_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// recordingMeter is a Meter that records its calls.
type recordingMeter struct {
	mu    sync.Mutex
	calls []string
}

func (n *recordingMeter) record(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls = append(n.calls, fmt.Sprintf(format, args...))
}

func (n *recordingMeter) Dialed(took time.Duration, err error) { n.record("dialed %v %v", took, err) }
func (n *recordingMeter) FirstByte(took time.Duration)         { n.record("first byte %v", took) }
func (n *recordingMeter) Retried()                             { n.record("retried") }
func (n *recordingMeter) Held(took time.Duration)              { n.record("held %v", took) }
func (n *recordingMeter) Failed(kind fwd.FailureKind)          { n.record("failed %s", kind) }

func (n *recordingMeter) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.calls, ", ")
}

func (b *bubble) traffic() fwd.Traffic {
	b.Helper()
	all := b.engine.Traffic()
	if hosts := slices.Collect(maps.Keys(all)); len(hosts) != 1 {
		b.Fatalf("got traffic of hosts %v, want one host", hosts)
	}
	return all[b.engine.Status().Hosts[0].ID]
}

// The bytes of a connection count once, while it is open and after its end.
func TestTraffic(t *testing.T) {
	inBubble(t, service("web", "a"), map[string]behavior{"a": echoes()}, nil, func(b *bubble) {
		if got := b.traffic(); got != (fwd.Traffic{}) {
			t.Errorf("initially: got %+v, want none", got)
		}
		client := b.connect()
		for _, text := range []string{"four", "fifth"} {
			_, _ = io.WriteString(client, text)
			if _, err := io.ReadFull(client, make([]byte, len(text))); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if got, want := b.traffic(), (fwd.Traffic{Open: 1, Total: 1, BytesUp: 9, BytesDown: 9}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		_ = client.Close()
		b.sleep(time.Minute)
		b.set(service("web", "a", "b")) // a new plan
		if got, want := b.traffic(), (fwd.Traffic{Total: 1, BytesUp: 9, BytesDown: 9}); got != want {
			t.Errorf("after a new plan: got %+v, want %+v", got, want)
		}
	})
}

func TestMeter(t *testing.T) {
	meter := &recordingMeter{}
	prepare := func(e *fwd.Engine) { e.Meter = meter }
	inBubble(t, service("web", "a", "b"), map[string]behavior{"a": failsDial(fwd.PodGone), "b": writes("b")}, prepare, func(b *bubble) {
		b.wantAnswer("b")
		empty := service("web")
		b.set(empty)
		b.wantReset(10 * time.Second)
		held := b.connect()
		b.sleep(2 * time.Second)
		svc := service("web", "b")
		b.set(svc)
		_, _ = io.ReadAll(held)
		b.set(svc, service("other", "b"))
	})
	if got, want := meter.String(), "dialed 0s unreached, retried, dialed 0s <nil>, first byte 0s, "+
		"held 10s, failed no_pod, dialed 0s <nil>, held 2.05s, first byte 2.05s"; got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

// slowDialer is a Dialer that blocks until ctx ends.
type slowDialer struct{ fwd.Dialer }

func (slowDialer) Dial(ctx context.Context, _ plan.PodRef, _ uint16) (fwd.Stream, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// The Meter isn't called for retries, first bytes and dials that didn't happen.
func TestMeterIsNotCalled(t *testing.T) {
	for name, c := range map[string]struct {
		pod    behavior
		dialer fwd.Dialer // instead of the pod
		ask    func(*bubble)
		want   string
	}{
		"no retry": {failsDial(fwd.PortClosed), nil, func(b *bubble) {
			b.wantReset(0)
			b.sleep(0)
		}, "dialed 0s unreached, failed port_closed"},
		"no first byte": {answers(func(*memConn) {}), nil, func(b *bubble) { b.wantAnswer("") }, "dialed 0s <nil>"},
		"canceled dial": {nil, slowDialer{}, func(b *bubble) {
			client := b.connect()
			b.sleep(time.Second)
			_ = client.Close()
			b.sleep(time.Minute)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			meter := &recordingMeter{}
			inBubble(t, service("web", "a"), map[string]behavior{"a": c.pod}, func(e *fwd.Engine) {
				e.Meter = meter
				if c.dialer != nil {
					e.Dialer = c.dialer
				}
			}, c.ask)
			if got := meter.String(); got != c.want {
				t.Errorf("got\n%s, want\n%s", got, c.want)
			}
		})
	}
}

// The traffic of a service is kept when one of its ports is removed.
func TestTrafficSurvivesRemovedPort(t *testing.T) {
	svc := service("web", "a")
	svc.Ports = append(svc.Ports, plan.ServicePort{Name: "other", Protocol: "TCP", Number: 81})
	svc.Endpoints[0].Ports["other"] = 8081
	inBubble(t, svc, map[string]behavior{"a": writes("aa")}, nil, func(b *bubble) {
		for port := range 2 {
			if _, _, err := b.exchange(b.connectTo(port), "x"); err != nil {
				t.Error(err)
			}
		}
		b.sleep(time.Minute)
		for _, svc := range []plan.Service{service("web", "a"), svc} {
			b.set(svc)
			if got, want := b.traffic(), (fwd.Traffic{Total: 2, BytesUp: 2, BytesDown: 4}); got != want {
				t.Errorf("with %d ports: got %+v, want %+v", len(svc.Ports), got, want)
			}
		}
	})
}

// Changed's channel is closed by each change of the Status, and by NotifyChanged.
func TestChanged(t *testing.T) {
	inBubble(t, service("web", "a"), namedPods("a"), nil, func(b *bubble) {
		changed := b.engine.Changed()
		select {
		case <-changed:
			t.Error("the channel is closed without a change")
		default:
		}
		b.set(service("web", "a", "b"))
		<-changed
		if pods := b.engine.Status().Hosts[0].Pods; pods != 2 {
			t.Errorf("got %d pods, want 2", pods)
		}
		changed = b.engine.Changed()
		b.engine.NotifyChanged()
		<-changed
	})
}
