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

// attempt is one request over a connection of its own.
type attempt struct {
	at   time.Duration // since the first
	took time.Duration
	pod  string // that answered
	err  error
}

// underLoad asks a URL again and again, at that interval whether or not there
// was an answer, while something happens; and returns when all have ended.
func underLoad(address string, interval time.Duration, happens func()) []attempt {
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
		happens()
	}()
	slices.SortFunc(attempts, func(a, b attempt) int { return int(a.at - b.at) })
	return attempts
}

// failed returns those that had no answer.
func failed(attempts []attempt) []attempt {
	return slices.DeleteFunc(slices.Clone(attempts), func(a attempt) bool { return a.err == nil })
}

// noneFailed checks that all were answered, and says how long they took.
func noneFailed(t *testing.T, attempts []attempt) {
	t.Helper()
	t.Log(summarize(attempts))
	if len(attempts) == 0 {
		t.Error("there was no load")
	}
	reportFailures(t, attempts, failed(attempts))
}

// noneFailedExcept is noneFailed, but for as many as ended early: a process that
// ends loses the connections that it has just taken, also without us between,
// and what it was told can't be told to another one.
func noneFailedExcept(t *testing.T, ended int, attempts []attempt) {
	t.Helper()
	lost := failed(attempts)
	early := slices.DeleteFunc(slices.Clone(lost), func(a attempt) bool {
		return !errors.Is(a.err, io.EOF) && !errors.Is(a.err, syscall.ECONNRESET)
	})
	if len(early) == len(lost) && len(early) <= ended && len(attempts) > 0 {
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
	t.Errorf("%d of %d connections failed:%s", len(lost), len(attempts), lines.String())
}

// summarize sums up how it went.
func summarize(attempts []attempt) string {
	if len(attempts) == 0 {
		return "no connections"
	}
	took := make([]time.Duration, 0, len(attempts))
	for _, a := range attempts {
		took = append(took, a.took)
	}
	slices.Sort(took)
	return fmt.Sprintf("%d connections in %v, %d failed; the median took %v, one in a hundred %v, the slowest %v",
		len(attempts), attempts[len(attempts)-1].at.Round(time.Millisecond), len(failed(attempts)),
		took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
}

// No connection is lost while pods are replaced.
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
	t.Run("a rolling restart", func(t *testing.T) { testRollingRestart(t, ns) })
	t.Run("the only pod is deleted", func(t *testing.T) { testOnlyPodDeleted(t, ns) })
	t.Run("the first pod comes", func(t *testing.T) { testFirstPodComes(t, ns) })
	t.Run("a port opens late", func(t *testing.T) { testPortOpensLate(t, d, ns) })
}

// withPreStopSleep has the pods of a deployment go on for a moment when they terminate,
// as Kubernetes advises for those that must lose no connection.
func withPreStopSleep(deployment string) string {
	return strings.NewReplacer("terminationGracePeriodSeconds: 1,", "terminationGracePeriodSeconds: 3,",
		`name: go-ok, image:`, `name: go-ok, lifecycle: {preStop: {sleep: {seconds: 1}}}, image:`).Replace(deployment)
}

const loadInterval = 20 * time.Millisecond // 50 new connections a second

func testRollingRestart(t *testing.T, ns string) {
	pods := podNames(t, ns, "web")
	first := len(pods)
	attempts := underLoad("http://web."+ns, loadInterval, func() {
		for range 3 {
			kubectl(t, "", "-n", ns, "rollout", "restart", "deployment/web")
			kubectl(t, "", "-n", ns, "rollout", "status", "deployment/web", "--timeout=2m")
			eventually(t, "the old pods are gone", func() error {
				if now := podNames(t, ns, "web"); len(now) != first {
					return fmt.Errorf("there are %v", now)
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
			t.Errorf("%s never answered; there were %v", pod, answered)
		}
	}
}

// podNames returns the names of the app's pods, those that are ending too.
func podNames(t *testing.T, ns, app string) []string {
	t.Helper()
	return strings.Fields(kubectl(t, "", "-n", ns, "get", "pods", "-l", "app="+app, "-o", "jsonpath={.items[*].metadata.name}"))
}

// defaultHoldTimeout is how long a connection waits for a pod if nothing is said of it.
const defaultHoldTimeout = 10 * time.Second

func testOnlyPodDeleted(t *testing.T, ns string) {
	for range 5 {
		var away time.Duration // at most
		attempts := underLoad("http://solo."+ns, loadInterval, func() {
			pause(t, time.Second)
			begin := time.Now()
			kubectl(t, "", "-n", ns, "delete", "pod", "-l", "app=solo") // waits until it is gone
			waitForReadyPods(t, ns, "solo", 1)
			away = time.Since(begin)
			pause(t, time.Second)
		})
		if away < defaultHoldTimeout*8/10 {
			t.Logf("the next pod was ready after %v at most", away)
			noneFailedExcept(t, 1, attempts)
			return
		}
		t.Logf("the next pod was ready after %v, so that proves nothing: %s", away, summarize(attempts))
	}
	t.Fatal("this cluster is too slow: it has no pod again within the time that connections are held")
}

// testFirstPodComes has a service whose pods come while a connection waits.
func testFirstPodComes(t *testing.T, ns string) {
	done := make(chan error, 1)
	go func() {
		_, err := get("http://empty." + ns)
		done <- err
	}()
	pause(t, time.Second)
	select {
	case err := <-done:
		t.Fatalf("without a pod it ends at once: %v", err)
	default:
	}
	kubectl(t, "", "-n", ns, "patch", "service", "empty", "-p", `{"spec": {"selector": {"app": "web"}}}`)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// testPortOpensLate has a pod that counts as ready before it listens.
func testPortOpensLate(t *testing.T, d *daemon, ns string) {
	const late = 4 * time.Second
	apply(t, peerPod(ns, "late", fmt.Sprintf("args: [-after=%v]", late)))
	d.waitForLog(t, "late."+ns)
	eventually(t, "kubeshore knows of the pod", func() error {
		for _, line := range d.linesSince(0) {
			if strings.Contains(line, " late."+ns) && strings.Contains(line, "1/1 ready") {
				return nil
			}
		}
		return errors.New("it doesn't say so")
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
	t.Logf("the last answer came after %v", slowest)
}
