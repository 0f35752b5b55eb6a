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

// plugin is a credential plugin that gives the token in a file, and counts its
// runs.
type plugin struct {
	t             *testing.T
	runs, token   string // files
	authorization string // what the last request came with
	status        int    // what requests are answered with
}

func newPlugin(t *testing.T) *plugin {
	t.Helper()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	return &plugin{t: t, runs: filepath.Join(dir, "runs"), token: filepath.Join(dir, "token"), status: http.StatusOK}
}

// gives sets what the plugin gives; it fails at the empty token.
func (p *plugin) gives(token string) {
	p.t.Helper()
	if err := errors.Join(os.RemoveAll(p.token), os.WriteFile(p.token, []byte(token), 0o600)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *plugin) config() *rest.Config {
	return &rest.Config{Host: "https://127.0.0.1:1", ExecProvider: &clientcmdapi.ExecConfig{
		APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
		Command: "sh", Args: []string{"-c", `echo >> "$0"; test -s "$1" && cat "$1"`, p.runs, p.token},
	}}
}

// credentials is what a plugin says.
func credentials(token, more string) string {
	return fmt.Sprintf(`{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":%q%s}}`, token, more)
}

func (p *plugin) RoundTrip(req *http.Request) (*http.Response, error) {
	p.authorization = req.Header.Get("Authorization")
	return &http.Response{StatusCode: p.status, Body: http.NoBody}, nil
}

// request sends one and returns its error, and how often the plugin has run.
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
	conf, err := credential.NewGate("ctx").Config(p.config())
	if err != nil {
		p.t.Fatal(err)
	}
	return conf.WrapTransport(p)
}

// A plugin that fails is run again after 30 seconds, then after twice as long
// each time, up to ten minutes; a success makes all good again.
func TestWaits(t *testing.T) {
	p := newPlugin(t)
	synctest.Test(t, func(t *testing.T) {
		p.gives("")
		client := p.client()
		start := time.Now()
		want := 0
		for _, wait := range []time.Duration{30, 60, 120, 240, 480, 600, 600} {
			want++
			for range 3 {
				runs, err := p.request(client)
				var denied *fwd.UnreachedError
				if !errors.As(err, &denied) || denied.Why != fwd.Denied || !strings.Contains(err.Error(), "exit code 1") || runs != want {
					t.Fatalf("%v: %d runs, want %d: %v", time.Since(start), runs, want, err)
				}
			}
			<-time.After(wait*time.Second - time.Nanosecond)
			if runs, _ := p.request(client); runs != want {
				t.Fatalf("%v: %d runs, want %d", time.Since(start), runs, want)
			}
			<-time.After(time.Nanosecond)
		}
		p.gives(credentials("token", fmt.Sprintf(`,"expirationTimestamp":%q`, time.Now().Add(time.Hour).Format(time.RFC3339))))
		if runs, err := p.request(client); runs != want+1 || err != nil || p.authorization != "Bearer token" {
			t.Fatalf("%d runs, %v, %q", runs, err, p.authorization)
		}
		p.gives("")
		<-time.After(time.Hour + time.Second)
		for range 2 { // expired
			if runs, err := p.request(client); runs != want+2 || err == nil {
				t.Errorf("%d runs, %v", runs, err)
			}
		}
		<-time.After(30 * time.Second)
		if runs, _ := p.request(client); runs != want+3 {
			t.Errorf("%d runs: the first wait isn't short again", runs)
		}
	})
}

// What the API server says 401 to is renewed once, and then only after a wait,
// whether the plugin fails or gives what isn't accepted.
func TestWaitsAfterRefusals(t *testing.T) {
	for _, then := range []string{"", credentials("other", "")} {
		p := newPlugin(t)
		synctest.Test(t, func(t *testing.T) {
			p.gives(credentials("token", ""))
			client := p.client()
			request := func(want int, fails bool) {
				t.Helper()
				if runs, err := p.request(client); runs != want || (err != nil) != fails {
					t.Fatalf("%d runs, %v; want %d", runs, err, want)
				}
			}
			request(1, false)
			p.status = http.StatusUnauthorized
			p.gives(then)
			request(2, false) // 401, which makes the plugin run
			request(2, false) // 401 again
			for range 3 {
				request(2, true)
			}
			<-time.After(30 * time.Second)
			request(3, false)
			request(3, false)
			<-time.After(30 * time.Second)
			request(3, true)
			<-time.After(30 * time.Second)
			p.status = http.StatusOK
			request(3, false)
			p.status = http.StatusUnauthorized
			request(4, false)
			request(4, false)
			<-time.After(30 * time.Second)
			request(5, false)
		})
	}
}

// Secrets of a plugin that says nonsense aren't told on.
func TestNonsense(t *testing.T) {
	for _, says := range []string{"s3cr3t", `{"token":"s3cr3t"`, credentials("", `,"clientKeyData":"s3cr3t"`)} {
		p := newPlugin(t)
		p.gives(says)
		_, err := p.request(p.client())
		if err == nil || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v", says, err)
		}
	}
}

// Without a plugin there is no gate; and a nil Gate is none.
func TestNoPlugin(t *testing.T) {
	for _, gate := range []*credential.Gate{nil, credential.NewGate("ctx")} {
		conf, err := gate.Config(&rest.Config{Host: "https://127.0.0.1:1", BearerToken: "t"})
		if err != nil || conf.WrapTransport != nil {
			t.Errorf("got %+v, %v", conf, err)
		}
	}
}
