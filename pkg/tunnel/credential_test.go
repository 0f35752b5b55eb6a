package tunnel

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/kubeshore/kubeshore/pkg/credential"
	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// user is a user of an API server with a real credential plugin.
type user struct {
	*apiServer
	good  atomic.Value // the token that the server accepts
	files string       // the plugin's directory
}

func newUser(t *testing.T) *user {
	t.Helper()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip(err)
	}
	u := &user{apiServer: newAPIServer(t, nil), files: t.TempDir()}
	u.Config.Handler = requireToken(u.apiServer, &u.good)
	return u
}

// setToken sets the token that the plugin returns. With an empty token, the plugin
// fails.
func (u *user) setToken(t *testing.T, token string) {
	t.Helper()
	output := ""
	if token != "" {
		output = fmt.Sprintf(`{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":%q}}`, token)
	}
	if err := os.WriteFile(filepath.Join(u.files, "output"), []byte(output), 0o600); err != nil {
		t.Fatal(err)
	}
}

// runs returns the number of plugin runs.
func (u *user) runs() int {
	lines, _ := os.ReadFile(filepath.Join(u.files, "runs")) // missing before the first run
	return strings.Count(string(lines), "\n")
}

func (u *user) cluster(t *testing.T, with Transport) *cluster {
	t.Helper()
	config := u.config()
	config.ExecProvider = &clientcmdapi.ExecConfig{
		APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
		Command: "sh", Args: []string{"-c", `cd "$0"; echo >> runs; test -s output && cat output`, u.files},
	}
	gate, err := credential.NewGate("ctx", config, credential.NewPlugins(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	c, err := newCluster(Cluster{Config: config, Gate: gate}, with)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// exchangeMany makes n exchanges in parallel and returns their errors.
func exchangeMany(t *testing.T, c *cluster, n int) []error {
	errs := make([]error, n)
	var running sync.WaitGroup
	for i := range errs {
		running.Go(func() { errs[i] = exchange(t.Context(), c) })
	}
	running.Wait()
	return errs
}

// When a token expires, the plugin runs once for all connections.
func TestExpiredTokenIsRenewedOnce(t *testing.T) {
	for _, with := range []Transport{SPDY, WebSocket, Auto} {
		u := newUser(t)
		c := u.cluster(t, with)
		for run, token := range []string{"first", "second", "third"} {
			u.good.Store(token)
			u.setToken(t, token)
			if err := errors.Join(exchangeMany(t, c, 20)...); err != nil {
				t.Error(err)
			}
			if n := u.runs(); n != run+1 {
				t.Errorf("%v: got %d plugin runs, want %d", with, n, run+1)
			}
		}
	}
}

// A failing plugin runs once for all connections, whether it fails at first or after
// a 401.
func TestFailingPluginRunsOnce(t *testing.T) {
	for name, prepare := range map[string]func(u *user, c *cluster) (runs int, text string){
		"at first": func(*user, *cluster) (int, string) { return 1, "exit code 1" },
		"after a 401": func(u *user, c *cluster) (int, string) {
			u.good.Store("first")
			u.setToken(t, "first")
			mustExchange(t, c, u.apiServer, WebSocket)
			u.good.Store("second")
			u.setToken(t, "")
			return 2, "exit code 1"
		},
		"rejected token": func(u *user, _ *cluster) (int, string) {
			u.good.Store("none")
			u.setToken(t, "some")
			return 2, "rejects"
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUser(t)
			c := u.cluster(t, WebSocket)
			runs, want := prepare(u, c)
			for _, err := range exchangeMany(t, c, 100) {
				var denied *fwd.UnreachedError
				if !errors.As(err, &denied) || denied.Reason != fwd.Denied || strings.Contains(err.Error(), "\n") {
					t.Errorf("got error %v, want a single line with reason Denied", err)
				}
			}
			before := u.takeRequests()
			text := wantUnreached(t, c, fwd.Denied, "kubeshore login ctx")
			if n := u.runs(); n != runs || !strings.Contains(text, want) {
				t.Errorf("got %d plugin runs and error %q, want %d and %q", n, text, runs, want)
			}
			if got := u.takeRequests(); len(got) != 0 {
				t.Errorf("got requests for %v after %v, want none", got, before)
			}
		})
	}
}
