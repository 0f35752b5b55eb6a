//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	proxyIdleTimeout = 20 * time.Second // of the proxy in front of the API server
	clientTimeout    = 60 * time.Second // for one run of a client
)

// Debian's psql, redis-cli, skopeo and curl work side by side, through a proxy
// in front of the API server that resets idle connections.
func TestRealClientsWork(t *testing.T) {
	s := newServers(t)
	proxy, kubeconfig := slowKubeconfig(t, 0)
	proxy.SetIdleTimeout(proxyIdleTimeout)
	d := up(t, "--kubeconfig", kubeconfig, "-n", s.namespace)
	from := d.logLen()
	t.Run("clients", func(t *testing.T) { // ends when all clients have ended
		for name, test := range map[string]func(*testing.T){
			"psql with TLS next to scrapes": s.testPsqlNextToScrapes,
			"notification after idle time":  func(t *testing.T) { s.testNotificationAfterIdleTime(t, kubeconfig) },
			"redis-cli":                     s.testRedis,
			"registry":                      s.testRegistry,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t)
			})
		}
	})
	eventually(t, "all connections are closed", noOpenConnections)
	lines := strings.Join(d.linesSince(from), "\n")
	for _, unwanted := range []string{"level=warning", "level=error", "lost connection to pod"} {
		if strings.Contains(lines, unwanted) {
			t.Errorf("got log\n%s\nwant no %q", lines, unwanted)
		}
	}
}

// runClient runs a client with an input and returns its output, also with an
// error.
func runClient(ctx context.Context, input io.Reader, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = clientEnv()
	cmd.Stdin, cmd.Stderr = input, &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), errors.Join(err, ctx.Err()), stderr.String())
	}
	return string(out), err
}

// clientEnv is the environment of clients: no translated messages, and no proxy
// for HTTP.
func clientEnv() []string { return append(os.Environ(), "LC_ALL=C", "no_proxy=*", "NO_PROXY=*") }

// repeat calls do n times, by several workers at once, and reports the first
// error of each worker.
func repeat(t *testing.T, n, workers int, do func(i int) error) {
	t.Helper()
	begin := time.Now()
	slowest, err := concurrently(workers, func(worker int) (slowest time.Duration, err error) {
		for i := worker; i < n; i += workers {
			begin := time.Now()
			if err := do(i); err != nil {
				return 0, fmt.Errorf("run %d of %d: %w", i+1, n, err)
			}
			slowest = max(slowest, time.Since(begin))
		}
		return slowest, nil
	})
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d runs in %v, the slowest in %v", n, time.Since(begin), slowest)
}

// noOpenConnections returns an error if a service has open connections.
func noOpenConnections() error {
	out, err := exec.Command(program, "ps", "-o", "json").Output()
	if err != nil {
		return err
	}
	var status struct {
		Services []struct {
			Name        string
			Connections int
		}
	}
	if err := json.Unmarshal(out, &status); err != nil {
		return err
	}
	for _, s := range status.Services {
		if s.Connections != 0 {
			return fmt.Errorf("got %d connections to %s, want none", s.Connections, s.Name)
		}
	}
	return nil
}

// psqlProgram returns the path of psql. Debian's psql in PATH is a script that
// runs it, and takes longer than psql itself.
func psqlProgram() string {
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/psql"); len(found) > 0 {
		return found[len(found)-1]
	}
	return "psql"
}

// psqlArgs returns the arguments of psql for a server, which must prove its
// identity.
func (s servers) psqlArgs(name string, args ...string) []string {
	return append([]string{"--no-psqlrc", "--no-password", "--no-align", "--tuples-only", "--quiet", "--set=ON_ERROR_STOP=1", fmt.Sprintf(
		"host=%s port=%d user=test dbname=postgres sslmode=verify-full sslrootcert=%s", s.host(name), postgresPort, s.ca)}, args...)
}

// testPsqlNextToScrapes runs psql many times while another port of the same pod
// is in use.
func (s servers) testPsqlNextToScrapes(t *testing.T) {
	attempts := underLoad(fmt.Sprintf("http://%s:%d", s.host("db"), exporterPort), 100*time.Millisecond, func() {
		repeat(t, 200, 4, func(i int) error {
			query := fmt.Sprintf("select %d, ssl from pg_stat_ssl where pid = pg_backend_pid()", i)
			got, err := runClient(t.Context(), nil, psqlProgram(), s.psqlArgs("db", "--command", query)...)
			if want := fmt.Sprintf("%d|t\n", i); err == nil && got != want {
				err = fmt.Errorf("got %q, want %q", got, want)
			}
			return err
		})
	})
	noneFailed(t, attempts)
}

// testNotificationAfterIdleTime has a session of psql that is idle for longer
// than the proxy permits, and then gets a notification.
func (s servers) testNotificationAfterIdleTime(t *testing.T, kubeconfig string) {
	listener := exec.CommandContext(t.Context(), psqlProgram(), s.psqlArgs("quiet")...)
	listener.Env = clientEnv()
	var stderr bytes.Buffer
	listener.Stderr = &stderr
	stdin, err1 := listener.StdinPipe()
	stdout, err2 := listener.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if err := listener.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Wait() }()
	defer stdin.Close()
	fmt.Fprintln(stdin, "listen news; select 'listening';")
	out := bufio.NewReader(stdout)
	if line, err := out.ReadString('\n'); line != "listening\n" {
		t.Fatalf("got output %q, %v, want listening; standard error: %s", line, err, stderr.String())
	}
	idle := idleConnection(t, kubeconfig)
	pause(t, proxyIdleTimeout*5/4)
	if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("idle connection through the same proxy: got %v, want a reset", err)
	}
	if _, err := runClient(t.Context(), nil, psqlProgram(), s.psqlArgs("quiet", "--command", "notify news, 'hello'")...); err != nil {
		t.Error(err)
	}
	fmt.Fprintln(stdin, "select 'end';") // psql prints notifications after a command
	_ = stdin.Close()
	rest, err := io.ReadAll(out)
	if want := `Asynchronous notification "news" with payload "hello" received`; err != nil || !strings.Contains(string(rest), want) {
		t.Errorf("got output %q, %v, want it to contain %q; standard error: %s", rest, err, want, stderr.String())
	}
}

// idleConnection returns a connection to the API server of a kubeconfig on
// which nothing is sent.
func idleConnection(t *testing.T, kubeconfig string) net.Conn {
	t.Helper()
	server, err := url.Parse(kubectl(t, "", "--kubeconfig", kubeconfig, "config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", server.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(conditionTimeout)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// testRedis runs commands one by one, many at once, with large values, and a
// subscription.
func (s servers) testRedis(t *testing.T) {
	redis := func(input io.Reader, args ...string) (string, error) {
		return runClient(t.Context(), input, "redis-cli", append([]string{"-h", s.host("cache"), "-p", strconv.Itoa(redisPort)}, args...)...)
	}
	expect := func(want string, input io.Reader, args ...string) {
		t.Helper()
		got, err := redis(input, args...)
		if err == nil && !strings.Contains(got, want) {
			err = fmt.Errorf("%q: got %.200q, want %.200q", args, got, want)
		}
		if err != nil {
			t.Error(err)
		}
	}
	repeat(t, 200, 8, func(int) error {
		got, err := redis(nil, "PING")
		if err == nil && got != "PONG\n" {
			err = fmt.Errorf("got %q, want PONG", got)
		}
		return err
	})
	const keys = 50_000
	var commands strings.Builder
	for i := range keys {
		fmt.Fprintf(&commands, "SET key:%d value:%d\r\n", i, i)
	}
	expect(fmt.Sprintf("errors: 0, replies: %d", keys), strings.NewReader(commands.String()), "--pipe")
	expect(strconv.Itoa(keys), nil, "DBSIZE")
	large := make([]byte, 16<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(large)
	expect("OK", bytes.NewReader(large), "-x", "SET", "large")
	expect(string(large), nil, "--raw", "GET", "large")

	subscriber := exec.CommandContext(t.Context(), "redis-cli", "-h", s.host("cache"), "SUBSCRIBE", "news")
	stdout, err := subscriber.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := subscriber.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = subscriber.Wait() }()
	defer func() { _ = subscriber.Process.Kill() }()
	lines := bufio.NewScanner(stdout)
	expectLines(t, lines, "subscribe", "news", "1")
	expect("1", nil, "PUBLISH", "news", "hello")
	expectLines(t, lines, "message", "news", "hello")
}

// expectLines reads lines and compares them.
func expectLines(t *testing.T, lines *bufio.Scanner, want ...string) {
	t.Helper()
	for _, line := range want {
		if !lines.Scan() || lines.Text() != line {
			t.Fatalf("got line %q, %v, want %q", lines.Text(), lines.Err(), line)
		}
	}
}
