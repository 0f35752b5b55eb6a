package fwd_test

import (
	"io"
	"testing"

	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// A terminating pod that has refused a connection gets no other one. After a failure
// that says nothing about the pod it does.
func TestTerminatingPodIsTriedAgain(t *testing.T) {
	for reason, want := range map[fwd.Reason]bool{
		fwd.PortClosed: false, fwd.PodGone: false, fwd.NodeUnreachable: true, fwd.ClusterUnreachable: true,
	} {
		svc := service("web", "a")
		svc.Endpoints[0].Ready, svc.Endpoints[0].Terminating = false, true
		failing := true
		pods := map[string]behavior{"a": func(int) (func(*memConn), error) {
			if failing {
				return nil, unreachedError(reason)
			}
			return func(pod *memConn) { _, _ = io.WriteString(pod, "hello") }, nil
		}}
		inBubble(t, svc, pods, nil, func(b *bubble) {
			_, _, _ = b.exchange(b.connect(), "")
			failing = false
			if answer, _, err := b.exchange(b.connect(), ""); (answer == "hello") != want {
				t.Errorf("after %v: got %q, %v, want another attempt: %t", reason, answer, err, want)
			}
		})
	}
}
