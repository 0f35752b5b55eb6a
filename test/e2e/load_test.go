//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// attempt is one request over a new connection.
type attempt struct {
	at   time.Duration // since the start of the load
	took time.Duration
	pod  string // that answered
	err  error
}

// underLoad sends requests to a URL, one per interval whether or not earlier
// ones were answered, while event runs. It returns when all requests have
// ended.
func underLoad(address string, interval time.Duration, event func()) []attempt {
	var mu sync.Mutex
	var attempts []attempt
	begin := time.Now()
	one := func() {
		a := attempt{at: time.Since(begin)}
		var got response
		got, a.err = get(address)
		a.took, a.pod = time.Since(begin)-a.at, got.Pod
		mu.Lock()
		defer mu.Unlock()
		attempts = append(attempts, a)
	}
	func() {
		over := make(chan struct{})
		var running sync.WaitGroup
		defer running.Wait()
		defer close(over)
		running.Go(func() {
			ticks := time.NewTicker(interval)
			defer ticks.Stop()
			for {
				select {
				case <-over:
					return
				case <-ticks.C:
					running.Go(one)
				}
			}
		})
		event()
	}()
	slices.SortFunc(attempts, func(a, b attempt) int { return int(a.at - b.at) })
	return attempts
}

// failed returns the attempts without a response.
func failed(attempts []attempt) []attempt {
	return slices.DeleteFunc(slices.Clone(attempts), func(a attempt) bool { return a.err == nil })
}

// noneFailed checks that all requests were answered, and logs how long they
// took.
func noneFailed(t *testing.T, attempts []attempt) {
	t.Helper()
	t.Log(summarize(attempts))
	if len(attempts) == 0 {
		t.Error("got no requests, want some")
	}
	reportFailures(t, attempts, failed(attempts))
}

// noneFailedExcept is like noneFailed, but allows up to lostMax connections to
// end early. A process that exits loses the connections that it has just
// accepted, even without a forwarder, and data that it received can't be sent
// to another one.
func noneFailedExcept(t *testing.T, lostMax int, attempts []attempt) {
	t.Helper()
	lost := failed(attempts)
	early := slices.DeleteFunc(slices.Clone(lost), func(a attempt) bool {
		return !errors.Is(a.err, io.EOF) && !errors.Is(a.err, syscall.ECONNRESET)
	})
	if len(early) == len(lost) && len(early) <= lostMax && len(attempts) > 0 {
		t.Log(summarize(attempts))
		return
	}
	noneFailed(t, attempts)
}

func reportFailures(t *testing.T, attempts, lost []attempt) {
	t.Helper()
	if len(lost) == 0 {
		return
	}
	var lines strings.Builder
	for _, a := range lost[:min(len(lost), 10)] {
		fmt.Fprintf(&lines, "\n%v: after %v: %v", a.at, a.took, a.err)
	}
	t.Errorf("got %d failures of %d connections, want none:%s", len(lost), len(attempts), lines.String())
}

// summarize returns the number of attempts and how long they took.
func summarize(attempts []attempt) string {
	if len(attempts) == 0 {
		return "no connections"
	}
	took := make([]time.Duration, 0, len(attempts))
	for _, a := range attempts {
		took = append(took, a.took)
	}
	slices.Sort(took)
	return fmt.Sprintf("%d connections in %v, %d failed; took %v (median), %v (99th percentile), %v (slowest)",
		len(attempts), attempts[len(attempts)-1].at.Round(time.Millisecond), len(failed(attempts)),
		took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
}

func TestConnectionsSurvivePodReplacement(t *testing.T) {
	ns := newNamespace(t)
	apply(t,
		withPreStopSleep(deployment(ns, "web", 2)), service(ns, "web", 80, ""),
		deployment(ns, "solo", 1), service(ns, "solo", 80, ""),
		strings.Replace(service(ns, "empty", 80, ""), "app: empty", "app: nobody", 1),
	)
	waitForReadyPods(t, ns, "web", 2)
	waitForReadyPods(t, ns, "solo", 1)
	d := up(t, "-n", ns)
	t.Run("rolling restart", func(t *testing.T) { testRollingRestart(t, ns) })
	t.Run("deletion of the only pod", func(t *testing.T) { testOnlyPodDeleted(t, ns) })
	t.Run("first pod is added", func(t *testing.T) { testFirstPodAdded(t, ns) })
	t.Run("port opens late", func(t *testing.T) { testPortOpensLate(t, d, ns) })
}

// withPreStopSleep makes the pods of a Deployment keep running for a moment
// when they terminate, as Kubernetes recommends for pods that must not lose
// connections.
func withPreStopSleep(manifest string) string {
	return strings.NewReplacer("terminationGracePeriodSeconds: 1,", "terminationGracePeriodSeconds: 3,",
		`name: go-ok, image:`, `name: go-ok, lifecycle: {preStop: {sleep: {seconds: 1}}}, image:`).Replace(manifest)
}

const loadInterval = 20 * time.Millisecond // 50 new connections a second

func testRollingRestart(t *testing.T, ns string) {
	pods := podNames(t, ns, "web")
	first := len(pods)
	attempts := underLoad("http://web."+ns, loadInterval, func() {
		for range 3 {
			kubectl(t, "", "-n", ns, "rollout", "restart", "deployment/web")
			kubectl(t, "", "-n", ns, "rollout", "status", "deployment/web", "--timeout=2m")
			eventually(t, "the old pods are deleted", func() error {
				if names := podNames(t, ns, "web"); len(names) != first {
					return fmt.Errorf("got pods %v, want %d", names, first)
				}
				return nil
			})
			pods = append(pods, podNames(t, ns, "web")...)
		}
		pause(t, time.Second)
	})
	noneFailed(t, attempts)
	answered := make(map[string]int)
	for _, a := range attempts {
		answered[a.pod]++
	}
	for _, pod := range pods {
		if answered[pod] == 0 {
			t.Errorf("got responses from pods %v, want some from %s", answered, pod)
		}
	}
}

// podNames returns the names of the app's pods, including terminating ones.
func podNames(t *testing.T, ns, app string) []string {
	t.Helper()
	return strings.Fields(kubectl(t, "", "-n", ns, "get", "pods", "-l", "app="+app, "-o", "jsonpath={.items[*].metadata.name}"))
}

// defaultHoldTimeout is the default of --hold.
const defaultHoldTimeout = 10 * time.Second

func testOnlyPodDeleted(t *testing.T, ns string) {
	for range 5 {
		var unavailable time.Duration // upper limit
		attempts := underLoad("http://solo."+ns, loadInterval, func() {
			pause(t, time.Second)
			begin := time.Now()
			kubectl(t, "", "-n", ns, "delete", "pod", "-l", "app=solo") // waits for the deletion
			waitForReadyPods(t, ns, "solo", 1)
			unavailable = time.Since(begin)
			pause(t, time.Second)
		})
		if unavailable < defaultHoldTimeout*8/10 {
			t.Logf("the next pod was ready after %v at most", unavailable)
			noneFailedExcept(t, 1, attempts)
			return
		}
		t.Logf("the next pod was ready after %v, too late for the test: %s", unavailable, summarize(attempts))
	}
	t.Fatal("cluster is too slow: no new pod within the default of --hold")
}

// testFirstPodAdded adds the first pod of a service while a connection waits.
func testFirstPodAdded(t *testing.T, ns string) {
	done := make(chan error, 1)
	go func() {
		_, err := get("http://empty." + ns)
		done <- err
	}()
	pause(t, time.Second)
	select {
	case err := <-done:
		t.Fatalf("request to a service without pods: got %v after 1s, want it to wait", err)
	default:
	}
	kubectl(t, "", "-n", ns, "patch", "service", "empty", "-p", `{"spec": {"selector": {"app": "web"}}}`)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// testPortOpensLate connects to a pod that is ready before it is listening.
func testPortOpensLate(t *testing.T, d *daemon, ns string) {
	const delay = 4 * time.Second
	apply(t, peerPod(ns, "late", fmt.Sprintf("args: [-after=%v]", delay)))
	d.waitForLog(t, "late."+ns)
	eventually(t, "kubeshore knows the pod", func() error {
		for _, line := range d.linesSince(0) {
			if strings.Contains(line, " late."+ns) && strings.Contains(line, "1/1 ready") {
				return nil
			}
		}
		return errors.New("got no log line with 1/1 ready")
	})
	slowest, err := concurrently(6, func(i int) (time.Duration, error) {
		if i%2 == 0 { // the client speaks first
			return request("late."+ns, 7000, "hello", "hello")
		}
		return request("late."+ns, 7003, "", "hello\n")
	})
	if err != nil {
		t.Error(err)
	}
	t.Logf("last response after %v", slowest)
}
