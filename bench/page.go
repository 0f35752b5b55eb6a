package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/kubeshore/kubeshore/test/peer"
)

// environment is where and with what was measured.
type environment struct {
	date                       time.Time
	cpu, kernel                string
	cores                      int
	memory                     string
	goVersion                  string
	kubeshore, kubectl, server string
	rounds                     int
	effort                     effort
}

// describeEnvironment finds out about the machine and asks the programs for their
// versions. The folder dir is for what they leave.
func describeEnvironment(ctx context.Context, o options, dir string) (environment, error) {
	a := environment{date: time.Now(), cores: runtime.NumCPU(), goVersion: runtime.Version(), rounds: o.rounds, effort: fullEffort()}
	cpu, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return a, fmt.Errorf("bench: describe machine: %w", err)
	}
	memory, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return a, fmt.Errorf("bench: describe machine: %w", err)
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return a, fmt.Errorf("bench: describe machine: %w", err)
	}
	a.cpu, a.memory = procField(string(cpu), "model name"), gibibytes(procField(string(memory), "MemTotal"))
	a.kernel, _, _ = strings.Cut(strings.TrimSpace(string(kernel)), "-")
	version, err := exec.CommandContext(ctx, o.kubeshore, "version").Output()
	if err != nil {
		return a, fmt.Errorf("bench: run kubeshore: %w", err)
	}
	a.kubeshore = strings.TrimPrefix(strings.TrimSpace(string(version)), "kubeshore ")
	if commit, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output(); err == nil { // a build need not know it
		a.kubeshore += ", commit " + strings.TrimSpace(string(commit))
	}
	a.kubectl, a.server, err = versions(ctx, o, dir)
	return a, err
}

// versions asks kubectl for its own version and the API server's.
func versions(ctx context.Context, o options, dir string) (client, server string, err error) {
	cmd := exec.CommandContext(ctx, o.kubectl, "--kubeconfig", o.kubeconfig, "version", "--output=json")
	cmd.Env = append(os.Environ(), cacheEnv(dir))
	out, err := cmd.Output()
	if err != nil {
		return "", "", fmt.Errorf("bench: run kubectl version: %w", err)
	}
	var v struct {
		ClientVersion, ServerVersion struct{ GitVersion string }
	}
	if err := json.Unmarshal(out, &v); err != nil {
		return "", "", fmt.Errorf("bench: read kubectl version: %w", err)
	}
	return v.ClientVersion.GitVersion, v.ServerVersion.GitVersion, nil
}

// gibibytes is a size of /proc/meminfo, "N kB", as people say it.
func gibibytes(size string) string {
	var kib float64
	if _, err := fmt.Sscanf(size, "%f kB", &kib); err != nil {
		return "unknown memory"
	}
	return fmt.Sprintf("%.0f GiB", kib/(1<<20))
}

// benchmarkPage is docs/benchmarks.md.
func benchmarkPage(a environment, t table) string {
	var b strings.Builder
	e := a.effort
	fmt.Fprintf(&b, `# Benchmarks

`+"`make bench`"+` writes this page. It measures kubeshore and kubectl port-forward on the project's own cluster, where
client, forwarder, API server, kubelet, container runtime and pod share the machine's CPUs. So ratios mean
more than figures: the forwarders take turns within one run, and each figure is the median of %d rounds.

- %s, on %s
- %s, %d cores, %s, Linux %s, %s
- kubeshore %s
- kubectl %s with its default transport (WebSocket), and with KUBECTL_PORT_FORWARD_WEBSOCKETS=false (SPDY)
- Kubernetes %s

`, a.rounds, a.date.Format("2 January 2006"), runtime.GOOS+"/"+runtime.GOARCH, a.cpu, a.cores, a.memory, a.kernel, a.goVersion, a.kubeshore, a.kubectl, a.server)
	_ = t.write(&b) // a Builder takes everything
	fmt.Fprintf(&b, `
↑ more is better, ↓ less is better. "hangs" is no answer within %.0f seconds, "fails" an error.

## What is measured

Every figure is of a forwarder that was started for it, with all %d ports of one pod, and through it:

- **from a pod, to a pod**: %.0f MB over 1 connection, or shared by 8; and the CPU time of the forwarder's own
  process for it.
- **new connections**: each is made, says a byte, gets it back, and is closed; 16 at a time for %.0f seconds.
- **HTTP requests**: one after the other on each of 64 connections for %.0f seconds.
- **first byte**: from connect to the first answer. Warm: one new connection after the other, %.1f s apart,
  median of %d. Slowest of 8 at once: median of %d bursts. Cold: the very first connection after the start.
  50 ms away: a proxy before the API server adds that round trip. The server speaks first as in SMTP or MySQL,
  the client as in HTTP or PostgreSQL.
- **beside a stalled reader**: another connection's client asks for bytes without end and reads none. **Beside
  a stalled pod**: another connection's client sends to a process that reads nothing. The time is that of one
  question and answer, on new connections from connect on.
- **resident memory**: of the forwarder's process, when it has started, and with 1,000 connections open that
  each had an answer and are idle.

## Lowest and highest round

`, e.responseTimeout.Seconds(), len(peer.Ports()), float64(e.bytes)/1e6, e.rateWindow.Seconds(), e.rateWindow.Seconds(), e.sampleInterval.Seconds(), e.samples, e.bursts)
	_ = t.writeRanges(&b)
	return b.String()
}
