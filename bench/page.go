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

// environment describes the machine, the programs and the settings of a run.
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

// describeEnvironment reads the machine's properties and asks the programs for
// their versions. The programs may write to dir.
func describeEnvironment(ctx context.Context, o options, dir string) (environment, error) {
	env := environment{date: time.Now(), cores: runtime.NumCPU(), goVersion: runtime.Version(), rounds: o.rounds, effort: fullEffort()}
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return env, fmt.Errorf("bench: read machine properties: %w", err)
	}
	meminfo, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return env, fmt.Errorf("bench: read machine properties: %w", err)
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return env, fmt.Errorf("bench: read machine properties: %w", err)
	}
	env.cpu, env.memory = procField(string(cpuinfo), "model name"), gibibytes(procField(string(meminfo), "MemTotal"))
	env.kernel, _, _ = strings.Cut(strings.TrimSpace(string(kernel)), "-")
	version, err := exec.CommandContext(ctx, o.kubeshore, "version").Output()
	if err != nil {
		return env, fmt.Errorf("bench: run kubeshore version: %w", err)
	}
	env.kubeshore = strings.TrimPrefix(strings.TrimSpace(string(version)), "kubeshore ")
	if commit, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output(); err == nil { // not every build is from a git checkout
		env.kubeshore += ", commit " + strings.TrimSpace(string(commit))
	}
	env.kubectl, env.server, err = versions(ctx, o, dir)
	return env, err
}

// versions asks kubectl for its own version and that of the API server.
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
		return "", "", fmt.Errorf("bench: parse kubectl version: %w", err)
	}
	return v.ClientVersion.GitVersion, v.ServerVersion.GitVersion, nil
}

// gibibytes formats a size of /proc/meminfo ("N kB") in GiB.
func gibibytes(size string) string {
	var kib float64
	if _, err := fmt.Sscanf(size, "%f kB", &kib); err != nil {
		return "unknown memory"
	}
	return fmt.Sprintf("%.0f GiB", kib/(1<<20))
}

// benchmarkPage returns docs/benchmarks.md.
func benchmarkPage(env environment, t table) string {
	var b strings.Builder
	e := env.effort
	fmt.Fprintf(&b, `# Benchmarks

`+"`make bench`"+` writes this page. It compares kubeshore with kubectl port-forward on the project's own test cluster.
Client, forwarder, API server, kubelet, container runtime and pod share the CPUs of one machine, so the ratios mean
more than the absolute figures. The forwarders take turns within one run. Each figure is the median of %d rounds.

- %s, on %s
- %s, %d cores, %s, Linux %s, %s
- kubeshore %s
- kubectl %s with its default transport (WebSocket), and with KUBECTL_PORT_FORWARD_WEBSOCKETS=false (SPDY)
- Kubernetes %s

`, env.rounds, env.date.Format("2 January 2006"), runtime.GOOS+"/"+runtime.GOARCH, env.cpu, env.cores, env.memory, env.kernel, env.goVersion,
		env.kubeshore, env.kubectl, env.server)
	_ = t.write(&b) // a strings.Builder never fails
	fmt.Fprintf(&b, `
↑ higher is better, ↓ lower is better. "hangs": no response within %.0f seconds. "fails": an error.

## Measurements

Each benchmark starts the forwarder again, with all %d ports of one pod:

- **from a pod, to a pod**: transfer of %.0f MB over one connection or split over 8, and the CPU time that the
  forwarder's process uses for it.
- **new connections**: connect, send a byte, receive it, close; 16 at a time for %.0f seconds.
- **HTTP requests**: sequential requests on each of 64 keep-alive connections for %.0f seconds.
- **first byte**: time from connect to the first response. Warm: one new connection at a time, %.1f s apart, median
  of %d. Slowest of 8 at once: median of %d bursts. Cold: the first connection after the start. 50 ms away: a proxy
  in front of the API server adds that round trip. The server speaks first in SMTP and MySQL, the client in HTTP and
  PostgreSQL.
- **next to a stalled reader**: the client of another connection requests an endless download and reads none of it.
  **Next to a stalled pod**: the client of another connection sends to a process that reads nothing. The figure is
  the time of one request and response. On new connections it includes the connect.
- **resident memory**: of the forwarder's process after the start, and with 1,000 open idle connections that have
  each received a response.

## Lowest and highest round

`, e.hangTimeout.Seconds(), len(peer.Ports()), float64(e.bytes)/1e6, e.rateWindow.Seconds(), e.rateWindow.Seconds(), e.sampleInterval.Seconds(), e.samples, e.bursts)
	_ = t.writeRanges(&b)
	return b.String()
}
