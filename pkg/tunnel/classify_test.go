package tunnel

import (
	"strings"
	"testing"

	"github.com/kubeshore/kubeshore/pkg/fwd"
)

const (
	prefix = `error forwarding port 8080 to pod 63b217838a75, uid : ` // kubelet: cri-streaming, portforward/httpstream.go
	netns  = `failed to execute portforward in network namespace "/var/run/netns/cni-4b1a79cd": `
	listen = "nothing listens on port 8080 of the pod"
)

// classifyTests are texts from the source code of the programs, or observed ones.
var classifyTests = map[string]struct {
	text string
	why  fwd.Reason // 0 if the text proves nothing
	want string     // prefix of the error
}{
	// containerd, sandbox_portforward_linux.go.
	"containerd 1.6, observed": {
		prefix + netns + `failed to connect to localhost:8080 inside namespace "63b217838a75", IPv4: dial tcp4 127.0.0.1:8080: connect: connection refused IPv6 dial tcp6: address localhost: no suitable address found `,
		fwd.PortClosed, listen,
	},
	"containerd, dual stack": {
		prefix + netns + `failed to connect to localhost:8080 inside namespace "63b217838a75", IPv4: dial tcp4 127.0.0.1:8080: connect: connection refused IPv6 dial tcp6 [::1]:8080: connect: connection refused `,
		fwd.PortClosed, listen,
	},
	"containerd 2, localhost": {
		prefix + netns + `IPv4: dial tcp4 127.0.0.1:8080: connect: connection refused IPv6: dial tcp6 [::1]:8080: connect: cannot assign requested address`,
		fwd.PortClosed, listen,
	},
	"containerd 2, pod's address": {prefix + netns + `dial tcp 10.219.0.7:8080: connect: connection refused`, fwd.PortClosed, listen},
	"containerd 2, timeout": {
		prefix + netns + `dial tcp 10.219.0.7:8080: i/o timeout`,
		fwd.PodGone, "the pod's node cannot reach the pod: dial tcp 10.219.0.7:8080: i/o timeout",
	},
	"containerd, unknown sandbox": {
		prefix + `failed to find sandbox "63b217838a75" in store: not found`,
		fwd.PodGone, `the pod is gone: failed to find sandbox "63b217838a75" in store: not found`,
	},
	"containerd, observed after a deletion": {
		prefix + `network namespace for sandbox "63b217838a75" is closed`,
		fwd.PodGone, `the pod is gone: network namespace for sandbox "63b217838a75" is closed`,
	},
	"containerd, at the upgrade":     {`rpc error: code = Unknown desc = sandbox container is not running`, fwd.PodGone, "the pod is gone: sandbox container is not running"},
	"containerd, reset by the pod":   {prefix + netns + `read tcp4 127.0.0.1:34042->127.0.0.1:8080: read: connection reset by peer`, 0, ""},
	"containerd 2, reset by the pod": {prefix + `failed to execute portforward for "63b217838a75" port 8080: read tcp4 127.0.0.1:1->127.0.0.1:8080: read: connection reset by peer`, 0, ""},
	"containerd, closed by the pod":  {prefix + netns + `write tcp4 127.0.0.1:34042->127.0.0.1:8080: write: broken pipe`, 0, ""},
	// containerd 1.2 and dockershim: errors of socat (kind#869, kubefwd#120).
	"containerd with socat": {
		prefix + netns + `socat command returns error: exit status 1, stderr: "2019/09/26 05:18:40 socat[96552] E connect(5, AF=2 127.0.0.1:8080, 16): Connection refused\n"`,
		fwd.PortClosed, listen,
	},
	"dockershim": {prefix + `exit status 1: 2018/04/03 10:16:55 socat[633] E connect(5, AF=2 127.0.0.1:8080, 16): Connection refused`, fwd.PortClosed, listen},
	"dockershim, midway": {
		prefix + `exit status 1: 2018/04/03 10:16:55 socat[633] E write(5, 0x5581, 8192): Broken pipe`, 0, "",
	},
	"dockershim without socat": {prefix + `unable to do port forwarding: socat not found`, fwd.PodGone, "the pod is gone: unable to do"},
	// CRI-O: internal/oci/runtime_oci_linux.go, server/container_portforward.go.
	"CRI-O": {
		prefix + `port forward into network namespace "/var/run/netns/1c1f": failed to connect to localhost:8080 inside namespace 63b217838a75: dial tcp [::1]:8080: connect: connection refused`,
		fwd.PortClosed, listen,
	},
	"CRI-O, no route": {
		prefix + `port forward into network namespace "/var/run/netns/1c1f": failed to connect to localhost:8080 inside namespace 63b217838a75: dial tcp 127.0.0.1:8080: connect: network is unreachable`,
		fwd.PodGone, "the pod's node cannot reach the pod: failed to connect to localhost:8080",
	},
	"CRI-O, unknown sandbox":       {prefix + `could not find sandbox 63b217838a75`, fwd.PodGone, "the pod is gone: could not find sandbox"},
	"CRI-O, stopped sandbox":       {prefix + `sandbox 63b217838a75 is not running`, fwd.PodGone, "the pod is gone: sandbox 63b217838a75 is not running"},
	"CRI-O, namespace gone":        {prefix + `port forward into network namespace "/var/run/netns/1c1f": failed to Statfs "/var/run/netns/1c1f": no such file or directory`, fwd.PodGone, "the pod is gone: failed to Statfs"},
	"CRI-O, reset by the pod":      {prefix + `port forward into network namespace "/var/run/netns/1c1f": readfrom tcp 127.0.0.1:1->127.0.0.1:8080: read tcp: connection reset by peer`, 0, ""},
	"kubelet, unknown pod":         {`pod not found ("peer_ns")`, fwd.PodGone, "the pod is gone: pod not found"}, // kubelet_pods.go
	"kubelet, no sandbox":          {`failed to find sandboxID for pod peer_ns(u)`, fwd.PodGone, "the pod is gone: failed to find sandboxID"},
	"API server, unreachable node": {`error dialing backend: dial tcp 10.0.0.9:10250: connect: connection refused`, fwd.NodeUnreachable, "the API server cannot reach the pod's node: "},
	"API server, not scheduled":    {`pod peer does not have a host assigned`, fwd.PodGone, "the pod is gone: does not have a host assigned"},
	"unknown":                      {prefix + `context canceled`, 0, ""},
	"empty":                        {"", 0, ""},
}

func TestClassify(t *testing.T) {
	for name, c := range classifyTests {
		t.Run(name, func(t *testing.T) {
			got := classify(c.text)
			switch {
			case (got == nil) != (c.why == 0):
				t.Errorf("got %v, want reason %d", got, c.why)
			case got != nil && (got.Reason != c.why || !strings.HasPrefix(got.Error(), c.want) || len([]rune(got.Error())) > maxQuote+1):
				t.Errorf("got reason %d and error %q, want %d and %q", got.Reason, got, c.why, c.want)
			}
		})
	}
}
