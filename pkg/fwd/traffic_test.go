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

// noted is a Meter that notes what it is told.
type noted struct {
	mu   sync.Mutex
	told []string
}

func (n *noted) note(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.told = append(n.told, fmt.Sprintf(format, args...))
}

func (n *noted) Dialed(took time.Duration, err error) { n.note("dialed %v %v", took, err) }
func (n *noted) Answered(took time.Duration)          { n.note("answered %v", took) }
func (n *noted) Retried()                             { n.note("retried") }
func (n *noted) Held(took time.Duration)              { n.note("held %v", took) }
func (n *noted) Failed(kind fwd.Fault)                { n.note("failed %s", kind) }

func (n *noted) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.told, ", ")
}

func (b *bubble) traffic() fwd.Traffic {
	b.Helper()
	all := b.engine.Traffic()
	if hosts := slices.Collect(maps.Keys(all)); len(hosts) != 1 {
		b.Fatalf("there is traffic of %v", hosts)
	}
	return all[b.engine.Status().Hosts[0].ID]
}

// What goes over a connection counts while it is open, and after its end, once.
func TestTraffic(t *testing.T) {
	inBubble(t, service("web", "a"), map[string]behaviour{"a": echoes()}, nil, func(b *bubble) {
		if got := b.traffic(); got != (fwd.Traffic{}) {
			t.Errorf("at first there is %+v", got)
		}
		client := b.connect()
		for _, said := range []string{"four", "fifth"} {
			_, _ = io.WriteString(client, said)
			if _, err := io.ReadFull(client, make([]byte, len(said))); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if got, want := b.traffic(), (fwd.Traffic{Open: 1, Total: 1, Up: 9, Down: 9}); got != want {
			t.Errorf("there is %+v, want %+v", got, want)
		}
		_ = client.Close()
		b.after(time.Minute)
		b.set(service("web", "a", "b")) // it outlives a plan
		if got, want := b.traffic(), (fwd.Traffic{Total: 1, Up: 9, Down: 9}); got != want {
			t.Errorf("then there is %+v, want %+v", got, want)
		}
	})
}

func TestMeter(t *testing.T) {
	told := &noted{}
	meter := func(e *fwd.Engine) { e.Meter = told }
	inBubble(t, service("web", "a", "b"), map[string]behaviour{"a": fails(fwd.PodGone), "b": speaks("b")}, meter, func(b *bubble) {
		b.wantAnswer("b")
		empty := service("web")
		b.set(empty)
		b.wantReset(10 * time.Second)
		held := b.connect()
		b.after(2 * time.Second)
		svc := service("web", "b")
		b.set(svc)
		_, _ = io.ReadAll(held)
		b.set(svc, service("other", "b"))
	})
	if got, want := told.String(), "dialed 0s unreached, retried, dialed 0s <nil>, answered 0s, "+
		"held 10s, failed no_pod, dialed 0s <nil>, held 2.05s, answered 2.05s"; got != want {
		t.Errorf("it was told\n%s, want\n%s", got, want)
	}
}

// patient is a Dialer that dials as long as it may.
type patient struct{}

func (patient) Dial(ctx context.Context, _ plan.PodRef, _ uint16) (fwd.Stream, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// What didn't happen isn't told of.
func TestMeterOfWhatIsNot(t *testing.T) {
	for name, c := range map[string]struct {
		pod    behaviour
		dialer fwd.Dialer // in place of the pod
		ask    func(*bubble)
		want   string
	}{
		"a second try": {fails(fwd.PortClosed), nil, func(b *bubble) {
			b.wantReset(0)
			b.after(0)
		}, "dialed 0s unreached, failed port_closed"},
		"a first byte": {answers(func(*memory) {}), nil, func(b *bubble) { b.wantAnswer("") }, "dialed 0s <nil>"},
		"a failed dial": {nil, patient{}, func(b *bubble) {
			client := b.connect()
			b.after(time.Second)
			_ = client.Close()
			b.after(time.Minute)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			told := &noted{}
			inBubble(t, service("web", "a"), map[string]behaviour{"a": c.pod}, func(e *fwd.Engine) {
				e.Meter = told
				if c.dialer != nil {
					e.Dialer = c.dialer
				}
			}, c.ask)
			if got := told.String(); got != c.want {
				t.Errorf("it was told\n%s, want\n%s", got, c.want)
			}
		})
	}
}

// A port that goes takes nothing of what its service has come to with it.
func TestTrafficOutlivesAPort(t *testing.T) {
	svc := service("web", "a")
	svc.Ports = append(svc.Ports, plan.ServicePort{Name: "other", Protocol: "TCP", Number: 81})
	svc.Endpoints[0].Ports["other"] = 8081
	inBubble(t, svc, map[string]behaviour{"a": speaks("aa")}, nil, func(b *bubble) {
		for port := range 2 {
			if _, _, err := b.hear(b.connectTo(port), "x"); err != nil {
				t.Error(err)
			}
		}
		b.after(time.Minute)
		for _, svc := range []plan.Service{service("web", "a"), svc} {
			b.set(svc)
			if got, want := b.traffic(), (fwd.Traffic{Total: 2, Up: 2, Down: 4}); got != want {
				t.Errorf("with %d ports there is %+v, want %+v", len(svc.Ports), got, want)
			}
		}
	})
}

// Who waits for a change of the Status gets each.
func TestChanged(t *testing.T) {
	inBubble(t, service("web", "a"), named("a"), nil, func(b *bubble) {
		changed := b.engine.Changed()
		select {
		case <-changed:
			t.Error("it has changed by itself")
		default:
		}
		b.set(service("web", "a", "b"))
		<-changed
		if pods := b.engine.Status().Hosts[0].Pods; pods != 2 {
			t.Errorf("it has %d pods", pods)
		}
		changed = b.engine.Changed()
		b.engine.Announce()
		<-changed
	})
}
