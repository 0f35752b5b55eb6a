package controlserver

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/kubeshore/kubeshore/pkg/control"
)

// serveMetricsAt serves metrics of a status, and returns the address.
func serveMetricsAt(t *testing.T, configured string, status func() control.Status) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- ServeMetrics(ctx, l, configured, NewMetrics("v1", status).Handler()) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("ServeMetrics: %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return l.Addr().String()
}

func getMetrics(t *testing.T, address, host string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// Only requests for this machine get metrics, not those of a web page whose name was
// rebound to a loopback address.
func TestMetricsCheckTheHost(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	address := serveMetricsAt(t, "Metrics.Example.com:9090", newFakeDaemon().Status)
	for _, host := range []string{
		address, "127.0.0.1", "[::1]:9090", "[::1]", "192.0.2.1:80", "localhost", "LOCALHOST:9090", "localhost.", "a.localhost",
		"metrics.example.com:9090", "host.docker.internal:9090", "host.containers.internal", name,
	} {
		if status, _ := getMetrics(t, address, host); status != http.StatusOK {
			t.Errorf("Host: %s: got status %d, want 200", host, status)
		}
	}
	for _, host := range []string{
		"evil.example:9090", "127.0.0.1.evil.example", "localhost.evil.example", "anything.internal", "docker.internal", "evillocalhost", "xinternal", "example.com", "127.1", "a:b:c", "[evil.example]:80",
	} {
		if status, body := getMetrics(t, address, host); status != http.StatusForbidden || !strings.Contains(body, "--metrics") {
			t.Errorf("Host: %s: got status %d, %q, want 403 with the flag", host, status, body)
		}
	}
}

// Labels that aren't UTF-8 are escaped, and different ones remain different.
func TestMetricsWithLabelsThatAreNotUTF8(t *testing.T) {
	services := make([]control.Service, 0, 4)
	for _, context := range []string{"dev\xff", "dev\xfe", "dev\xed\xa0\x80", "dëv\n\""} {
		services = append(services, control.Service{Context: context, Namespace: "shop", Service: "web", State: control.State("odd\x80")})
	}
	address := serveMetricsAt(t, "", func() control.Status { return control.Status{Services: services} })
	status, body := getMetrics(t, address, address)
	if status != http.StatusOK {
		t.Fatalf("got status %d: %s", status, body)
	}
	for _, want := range []string{`context="dev\\xff"`, `context="dev\\xfe"`, `context="dev\\xed\\xa0\\x80"`, `context="dëv\n\""`, `state="odd\\x80"`} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s:\n%s", want, body)
		}
	}
}
