package credential_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/kubeshore/kubeshore/pkg/credential"
	"github.com/kubeshore/kubeshore/pkg/fwd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plugin is a credential plugin that prints a file, and counts its runs. As an
// http.RoundTripper it is the API server.
type plugin struct {
	t             *testing.T
	runs, output  string // files
	authorization string // of the last request
	status        int    // of responses
}

func newPlugin(t *testing.T) *plugin {
	t.Helper()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	return &plugin{t: t, runs: filepath.Join(dir, "runs"), output: filepath.Join(dir, "output"), status: http.StatusOK}
}

// setOutput sets the plugin's output. The plugin fails if it is empty.
func (p *plugin) setOutput(text string) {
	p.t.Helper()
	if err := errors.Join(os.RemoveAll(p.output), os.WriteFile(p.output, []byte(text), 0o600)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *plugin) config() *rest.Config {
	return &rest.Config{Host: "https://127.0.0.1:1", ExecProvider: &clientcmdapi.ExecConfig{
		APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
		Command: "sh", Args: []string{"-c", `echo >> "$0"; test -s "$1" && cat "$1"`, p.runs, p.output},
	}}
}

// credentials returns a plugin's output.
func credentials(token, more string) string {
	return fmt.Sprintf(`{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":%q%s}}`, token, more)
}

func (p *plugin) RoundTrip(req *http.Request) (*http.Response, error) {
	p.authorization = req.Header.Get("Authorization")
	return &http.Response{StatusCode: p.status, Body: http.NoBody}, nil
}

// request sends a request, and returns the number of the plugin's runs so far and
// the request's error.
func (p *plugin) request(client http.RoundTripper) (runs int, err error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "https://127.0.0.1:1/", nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.RoundTrip(req)
	if err == nil {
		err = resp.Body.Close()
	}
	lines, readErr := os.ReadFile(p.runs)
	return strings.Count(string(lines), "\n"), errors.Join(err, readErr)
}

func (p *plugin) client() http.RoundTripper {
	p.t.Helper()
	return client(p.t, p.config(), credential.NewPlugins(nil, nil), p)
}

// client returns a client with the credentials of a configuration.
func client(t *testing.T, config *rest.Config, plugins *credential.Plugins, server http.RoundTripper) http.RoundTripper {
	t.Helper()
	gate, err := credential.NewGate("ctx", config, plugins)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := gate.Config(config)
	if err != nil {
		t.Fatal(err)
	}
	return conf.WrapTransport(server)
}

// A failing plugin runs again after 30 seconds. The interval doubles up to ten
// minutes, and is 30 seconds again after a success.
func TestFailingPluginBacksOff(t *testing.T) {
	p := newPlugin(t)
	synctest.Test(t, func(t *testing.T) {
		p.setOutput("")
		client := p.client()
		start := time.Now()
		want := 0
		for _, wait := range []time.Duration{30, 60, 120, 240, 480, 600, 600} {
			want++
			for range 3 {
				runs, err := p.request(client)
				var denied *fwd.UnreachedError
				if !errors.As(err, &denied) || denied.Reason != fwd.Denied || !strings.Contains(err.Error(), "exit code 1") || runs != want {
					t.Fatalf("after %v: got %d runs, want %d: %v", time.Since(start), runs, want, err)
				}
			}
			<-time.After(wait*time.Second - time.Nanosecond)
			if runs, _ := p.request(client); runs != want {
				t.Fatalf("after %v: got %d runs, want %d", time.Since(start), runs, want)
			}
			<-time.After(time.Nanosecond)
		}
		p.setOutput(credentials("token", fmt.Sprintf(`,"expirationTimestamp":%q`, time.Now().Add(time.Hour).Format(time.RFC3339))))
		if runs, err := p.request(client); runs != want+1 || err != nil || p.authorization != "Bearer token" {
			t.Fatalf("got %d runs, error %v, authorization %q, want %d, none, Bearer token", runs, err, p.authorization, want+1)
		}
		p.setOutput("")
		<-time.After(time.Hour + time.Second)
		for range 2 { // the credentials have expired
			if runs, err := p.request(client); runs != want+2 || err == nil {
				t.Errorf("got %d runs, error %v, want %d and an error", runs, err, want+2)
			}
		}
		<-time.After(30 * time.Second)
		if runs, _ := p.request(client); runs != want+3 {
			t.Errorf("30s after the first failure since the success: got %d runs, want %d", runs, want+3)
		}
	})
}

// After a 401 credentials are renewed once, then only after an interval, whether
// the plugin fails or its new credentials are rejected too.
func TestRejectedCredentialsBackOff(t *testing.T) {
	for _, then := range []string{"", credentials("other", "")} {
		p := newPlugin(t)
		synctest.Test(t, func(t *testing.T) {
			p.setOutput(credentials("token", ""))
			client := p.client()
			request := func(want int, fails bool) {
				t.Helper()
				if runs, err := p.request(client); runs != want || (err != nil) != fails {
					t.Fatalf("got %d runs, error %v; want %d, error %v", runs, err, want, fails)
				}
			}
			request(1, false)
			p.status = http.StatusUnauthorized
			p.setOutput(then)
			request(2, false) // the 401 makes the plugin run
			if then != "" {
				request(2, false) // 401 again
			}
			for range 3 {
				request(2, true)
			}
			<-time.After(30 * time.Second)
			p.setOutput(credentials("token", ""))
			p.status = http.StatusOK
			request(3, false)
			p.status = http.StatusUnauthorized
			p.setOutput(then)
			request(4, false)
			if then != "" {
				request(4, false)
			}
			request(4, true)
			<-time.After(30 * time.Second)
			request(5, then == "")
		})
	}
}

// Errors don't show the output of a plugin, which may contain secrets.
func TestInvalidOutputStaysSecret(t *testing.T) {
	for _, output := range []string{"s3cr3t", `{"token":"s3cr3t"`, credentials("", `,"clientKeyData":"s3cr3t"`)} {
		p := newPlugin(t)
		p.setOutput(output)
		_, err := p.request(p.client())
		if err == nil || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("output %s: got error %v, want a line without s3cr3t", output, err)
		}
	}
}

// Everything that other goroutines do to the plugins of a process goes on while
// plugins start: status, login, handover.
func TestPluginsAreUsedConcurrently(t *testing.T) {
	plugins := credential.NewPlugins(nil, nil)
	gates := make([]*credential.Gate, 300)
	for i := range gates {
		var err error
		gates[i], err = credential.NewGate("ctx", &rest.Config{Host: fmt.Sprintf("https://%d", i), ExecProvider: &clientcmdapi.ExecConfig{
			APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: clientcmdapi.NeverExecInteractiveMode, Command: "/nonexistent/plugin",
		}}, plugins)
		if err != nil {
			t.Fatal(err)
		}
	}
	var calls sync.WaitGroup
	started := make(chan struct{})
	for _, gate := range gates {
		calls.Go(func() {
			<-started
			_ = gate.LogIn(t.Context())
			_, _ = gate.Waiting()
			_ = gate.Use(credential.Status{Token: "t"})
			_, _ = gate.Credential()
		})
	}
	for range 8 {
		calls.Go(func() {
			<-started
			for range 100 {
				plugins.Import(plugins.Export())
			}
		})
	}
	close(started)
	done := make(chan struct{})
	go func() {
		calls.Wait()
		plugins.Close()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("calls block each other, want them to return")
	}
	if got := len(plugins.Export()); got != len(gates) {
		t.Errorf("got %d credentials, want %d", got, len(gates))
	}
}

func TestConfigWithoutPlugin(t *testing.T) {
	config := &rest.Config{Host: "https://127.0.0.1:1", BearerToken: "t"}
	without, err := credential.NewGate("ctx", config, credential.NewPlugins(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, gate := range []*credential.Gate{nil, without} {
		conf, err := gate.Config(config)
		if err != nil || conf.WrapTransport != nil {
			t.Errorf("gate %v: got %+v, %v, want no WrapTransport", gate, conf, err)
		}
	}
}
