package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// kubeshore is `kubeshore up` with a separate hosts file.
type kubeshore struct {
	program, dir string
	process      *process
	address      string // of the Service
}

func (k *kubeshore) name() string { return "kubeshore" }

func (k *kubeshore) start(ctx context.Context, to target) error {
	if err := os.MkdirAll(k.dir, 0o755); err != nil {
		return fmt.Errorf("bench: create directory: %w", err)
	}
	hosts := filepath.Join(k.dir, "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 localhost\n"), 0o644); err != nil {
		return fmt.Errorf("bench: write hosts file: %w", err)
	}
	var err error
	if k.process, err = startProcess(ctx, k.dir, nil, k.program, "up", "--kubeconfig", to.kubeconfig, "--namespace", to.namespace, "--hosts-file", hosts); err != nil {
		return err
	}
	if err := k.process.waitForLog(ctx, func(log string) bool { return strings.Contains(log, "ready: ") }); err != nil {
		return err
	}
	text, err := os.ReadFile(hosts)
	if err != nil {
		return fmt.Errorf("bench: read hosts file: %w", err)
	}
	name := to.service + "." + to.namespace
	if k.address = lookupHosts(string(text), name); k.address == "" {
		return fmt.Errorf("bench: read hosts file: no entry for %s in\n%s", name, text)
	}
	return nil
}

func (k *kubeshore) dial(ctx context.Context, port uint16) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(k.address, strconv.Itoa(int(port))))
}

func (k *kubeshore) pid() int    { return k.process.cmd.Process.Pid }
func (k *kubeshore) stop() error { return k.process.stop() }

// lookupHosts returns the address of a name in a hosts file, or "".
func lookupHosts(hosts, name string) string {
	for text := range strings.Lines(hosts) {
		text, _, _ = strings.Cut(text, "#")
		fields := strings.Fields(text)
		for i, field := range fields {
			if i > 0 && field == name {
				return fields[0]
			}
		}
	}
	return ""
}
