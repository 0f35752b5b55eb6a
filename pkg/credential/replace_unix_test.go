//go:build !windows

package credential_test

import (
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/kubeshore/kubeshore/pkg/credential"
)

// roundTripper is a function as an http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// hanging returns a configuration whose plugin hangs in its first run, also after a
// SIGTERM. Later runs print p.output.
func (p *plugin) hanging() *rest.Config {
	config := p.config()
	config.ExecProvider.Args[1] = `trap '' TERM; echo >> "$0"; test $(wc -l < "$0") -gt 1 && exec cat "$1"; while :; do sleep 1; done`
	return config
}

// A credential from another process reaches the requests that wait for a hanging
// plugin, before that has exited. If the API server rejects it, also while other
// requests wait, the plugin runs again, and its credential counts.
func TestRejectedHandoverRunsPluginAgain(t *testing.T) {
	for _, waiting := range []int{0, 1, 8} {
		p := newPlugin(t)
		p.setOutput(credentials("renewed", ""))
		config, plugins := p.hanging(), credential.NewPlugins(nil, nil)
		defer plugins.Close()
		gate, err := credential.NewGate("ctx", config, plugins)
		if err != nil {
			t.Fatal(err)
		}
		conf, err := gate.Config(config)
		if err != nil {
			t.Fatal(err)
		}
		api := conf.WrapTransport(roundTripper(func(req *http.Request) (*http.Response, error) {
			code := http.StatusUnauthorized
			if req.Header.Get("Authorization") == "Bearer renewed" {
				code = http.StatusOK
			}
			return &http.Response{StatusCode: code, Body: http.NoBody}, nil
		}))
		request := func() (code int) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://127.0.0.1:1/", nil)
			if err != nil {
				t.Error(err)
				return 0
			}
			resp, err := api.RoundTrip(req)
			if err != nil {
				t.Error(err)
				return 0
			}
			_ = resp.Body.Close()
			return resp.StatusCode
		}
		var requests sync.WaitGroup
		for range waiting {
			requests.Go(func() { request() })
		}
		requests.Go(func() { _ = gate.LogIn(t.Context()) })
		awaitRuns(t, p, 1)
		if err := gate.Use(credential.Status{Token: "rejected"}); err != nil {
			t.Fatal(err)
		}
		if code := request(); code != http.StatusUnauthorized && waiting == 0 { // otherwise the plugin may have run already
			t.Errorf("with the rejected credential: got %d, want 401", code)
		}
		requests.Wait()
		if code := request(); code != http.StatusOK {
			t.Errorf("%d waiting requests: got %d, want the renewed credential to be accepted", waiting, code)
		}
		awaitRuns(t, p, 2)
	}
}

// awaitRuns waits until the plugin has run a number of times, and checks that it
// didn't run more often.
func awaitRuns(t *testing.T, p *plugin, want int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(time.Millisecond) {
		lines, _ := os.ReadFile(p.runs) // it doesn't exist before the first run
		switch n := strings.Count(string(lines), "\n"); {
		case n == want:
			return
		case n > want || time.Now().After(deadline):
			t.Fatalf("got %d runs, want %d", n, want)
		}
	}
}
