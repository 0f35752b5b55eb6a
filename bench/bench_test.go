package main

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParseFlags(t *testing.T) {
	t.Setenv("KUBECONFIG", "")
	for _, args := range []string{"", "-kubeconfig x more", "-kubeconfig x -rounds 0", "-kubeconfig x -run (", "-what"} {
		if _, err := parse(strings.Fields(args), io.Discard); !errors.Is(err, errUsage) {
			t.Errorf("%q: got %v, want a usage error", args, err)
		}
	}
	o, err := parse([]string{"-kubeconfig", "x", "-rounds", "7", "-quick", "-run", "^up/"}, io.Discard)
	if err != nil || o.rounds != 1 || o.only.MatchString("down/1") || !o.only.MatchString("up/1") {
		t.Errorf("got %+v, %v; want 1 round of the benchmarks up/", o, err)
	}
}

func TestTableLayout(t *testing.T) {
	tab := table{names: []string{"ours", "one", "two"}, rows: []tableRow{
		{metric{"rate", "1/s", true}, []cell{{values: []float64{4671, 4500, 9000}}, {values: []float64{1000}}, {values: []float64{2000}}}},
		{metric{"time", "ms", false}, []cell{{values: []float64{0.5}}, {timeouts: 2, failures: 1}, {values: []float64{1.25, 1.75}}}},
		{metric{"new", "ms", false}, []cell{{values: []float64{12.34, 12.36}, failures: 1}, {timeouts: 1}, {failures: 3, timeouts: 2}}},
		{metric{"none", "ms", false}, []cell{{failures: 1}, {values: []float64{1}}, {}}},
	}}
	var got strings.Builder
	if err := tab.write(&got); err != nil {
		t.Fatal(err)
	}
	if err := tab.writeRanges(&got); err != nil {
		t.Fatal(err)
	}
	const want = `
|      |       | ours                       | one   | two   | ratio to the best other |
| ---- | ----- | -------------------------- | ----- | ----- | ----------------------- |
| rate | 1/s ↑ | 4671                       | 1000  | 2000  | 2.34                    |
| time | ms ↓  | 0.50                       | hangs | 1.50  | 0.33                    |
| new  | ms ↓  | 12.3 (no result in 1 of 3) | hangs | fails | –                       |
| none | ms ↓  | fails                      | 1.00  | –     | –                       |
|      |     | ours      | one       | two       |
| ---- | --- | --------- | --------- | --------- |
| rate | 1/s | 4500–9000 | 1000–1000 | 2000–2000 |
| time | ms  | 0.50–0.50 | hangs     | 1.25–1.75 |
| new  | ms  | 12.3–12.4 | hangs     | fails     |
| none | ms  | fails     | 1.00–1.00 | –         |
`
	if got.String() != want[1:] {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want[1:])
	}
}

func TestPageIsComplete(t *testing.T) {
	env := environment{
		date: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), cpu: "A CPU", cores: 2, memory: gibibytes("25165824 kB"),
		kernel: "6.1", goVersion: "go1.26", kubeshore: "v0.1", kubectl: "v1.36.3", server: "v1.36.3", rounds: 5, effort: fullEffort(),
	}
	got := benchmarkPage(env, table{names: []string{"ours"}, rows: []tableRow{{metric{"rate", "1/s", true}, make([]cell, 1)}}})
	for _, want := range []string{"2 January 2026", "A CPU, 2 cores, 24 GiB, Linux 6.1, go1.26", "kubeshore v0.1", "| rate "} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant it to contain %q", got, want)
		}
	}
	if strings.Contains(got, "%!") {
		t.Errorf("got a wrong format verb in\n%s", got)
	}
}

func TestParseStat(t *testing.T) {
	got, err := parseStat("42 (a ) b) S 1 42 42 0 -1 4194560 100 0 0 0 150 25 0 0 20 0 8 0 100 1000 200\n")
	if want := 1750 * time.Millisecond; got != want || err != nil {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	for _, text := range []string{"", "42 (x) S 1", "42 (x) S 1 42 42 0 -1 4194560 100 0 0 0 x 25 0"} {
		if got, err := parseStat(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func TestLookupHosts(t *testing.T) {
	const hosts = "127.0.0.1 localhost # peer.ns\n# 127.0.0.2 peer.ns\n127.80.1.2 peer peer.ns\n127.80.1.3 peer.ns.other\n"
	for name, want := range map[string]string{"peer.ns": "127.80.1.2", "peer.ns.other": "127.80.1.3", "127.80.1.2": "", "other": ""} {
		if got := lookupHosts(hosts, name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestParseForwardings(t *testing.T) {
	const log = "Forwarding from 127.0.0.1:40001 -> 7000\nForwarding from 127.0.0.1:40002 -> 7001\nHandling connection for 40001\nForwarding from 127.0.0.1:4"
	got, want := parseForwardings(log), map[uint16]string{7000: "127.0.0.1:40001", 7001: "127.0.0.1:40002"}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRedirectKeepsServerName(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config")
	for name, text := range map[string]string{"ca": "certificate", "config": `
apiVersion: v1
kind: Config
current-context: mine
contexts: [{name: mine, context: {cluster: c, user: u}}, {name: other, context: {cluster: d, user: u}}]
clusters:
- {name: c, cluster: {server: "https://api.test/base", certificate-authority: ca}}
- {name: d, cluster: {server: "https://other.test"}}
users: [{name: u, user: {token: t}}]
`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config, err := loadKubeconfig(path)
	if err != nil {
		t.Fatal(err)
	}
	server, err := redirect(config, "127.0.0.1:1234")
	if err != nil || server != "api.test:443" {
		t.Errorf("got server %s, %v; want api.test:443", server, err)
	}
	c := config.Clusters["c"]
	if len(config.Clusters) != 1 || c.Server != "https://127.0.0.1:1234/base" || c.TLSServerName != "api.test" || string(c.CertificateAuthorityData) != "certificate" {
		t.Errorf("got clusters %+v, want c alone, at 127.0.0.1:1234, with api.test as the TLS server name", config.Clusters)
	}
}

func TestProcessLifecycle(t *testing.T) {
	never := func(string) bool { return false }
	t.Run("ready, then stopped", func(t *testing.T) {
		p, err := startProcess(t.Context(), t.TempDir(), []string{"TEXT=ready"}, "sh", "-c", "echo $TEXT; exec sleep 60")
		if err != nil {
			t.Fatal(err)
		}
		if err := p.waitForLog(t.Context(), func(log string) bool { return log == "ready\n" }); err != nil {
			t.Error(err)
		}
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
	t.Run("exits unexpectedly", func(t *testing.T) {
		p, err := startProcess(t.Context(), t.TempDir(), nil, "sh", "-c", "echo the reason; exit 1")
		if err != nil {
			t.Fatal(err)
		}
		if err := p.waitForLog(t.Context(), never); !errors.Is(err, errExited) || !strings.Contains(err.Error(), "the reason") {
			t.Errorf("got %v, want %v and the program's output", err, errExited)
		}
		if err := p.stop(); !errors.Is(err, errExited) {
			t.Errorf("got %v, want %v", err, errExited)
		}
	})
	t.Run("never ready", func(t *testing.T) {
		p, err := startProcess(t.Context(), t.TempDir(), nil, "sleep", "60")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := p.waitForLog(ctx, never); !timedOut(err) {
			t.Errorf("got %v, want a timeout", err)
		}
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
	t.Run("not found", func(t *testing.T) {
		p, err := startProcess(t.Context(), t.TempDir(), nil, "/nonexistent")
		if err == nil || p.stop() != nil {
			t.Errorf("got %v, want an error, and stop to do nothing", err)
		}
	})
}
