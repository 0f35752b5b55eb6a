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

// user is one of an API server whose credential plugin is a real one.
type user struct {
	*apiServer
	good  atomic.Value // the token that the server takes
	files string
}

func newUser(t *testing.T) *user {
	t.Helper()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip(err)
	}
	u := &user{apiServer: newAPIServer(t, nil), files: t.TempDir()}
	u.Config.Handler = onlyFor(u.apiServer, &u.good)
	return u
}

// has sets the token that the plugin gives; without one it fails.
func (u *user) has(t *testing.T, token string) {
	t.Helper()
	said := ""
	if token != "" {
		said = fmt.Sprintf(`{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":%q}}`, token)
	}
	if err := os.WriteFile(filepath.Join(u.files, "said"), []byte(said), 0o600); err != nil {
		t.Fatal(err)
	}
}

// runs returns how often the plugin has run.
func (u *user) runs() int {
	lines, _ := os.ReadFile(filepath.Join(u.files, "runs")) // not there before the first
	return strings.Count(string(lines), "\n")
}

func (u *user) cluster(t *testing.T, with Transport) *cluster {
	t.Helper()
	config := u.config()
	config.ExecProvider = &clientcmdapi.ExecConfig{
		APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
		Command: "sh", Args: []string{"-c", `cd "$0"; echo >> runs; test -s said && cat said`, u.files},
	}
	c, err := newCluster(Cluster{Config: config, Gate: credential.NewGate("ctx")}, with)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// many makes n exchanges at once and returns their errors.
func many(t *testing.T, c *cluster, n int) []error {
	errs := make([]error, n)
	var running sync.WaitGroup
	for i := range errs {
		running.Go(func() { errs[i] = exchange(t.Context(), c) })
	}
	running.Wait()
	return errs
}

// A token that expires in the middle of a run is renewed by one run of the
// plugin, and everybody goes on.
func TestTokenExpires(t *testing.T) {
	for _, with := range []Transport{SPDY, WebSocket, Auto} {
		u := newUser(t)
		c := u.cluster(t, with)
		for run, token := range []string{"first", "second", "third"} {
			u.good.Store(token)
			u.has(t, token)
			if err := errors.Join(many(t, c, 20)...); err != nil {
				t.Error(err)
			}
			if n := u.runs(); n != run+1 {
				t.Errorf("%v: the plugin ran %d times for %d tokens", with, n, run+1)
			}
		}
	}
}

// A plugin that fails is run once for all that want a connection, whether it
// fails at first or once the API server says 401.
func TestPluginFails(t *testing.T) {
	for name, prepare := range map[string]func(u *user, c *cluster) (runs int, says string){
		"at first": func(*user, *cluster) (int, string) { return 1, "exit code 1" },
		"after a 401": func(u *user, c *cluster) (int, string) {
			u.good.Store("first")
			u.has(t, "first")
			mustExchange(t, c, u.apiServer, WebSocket)
			u.good.Store("second")
			u.has(t, "")
			return 2, "rejects its credentials"
		},
		"and gives what is refused": func(u *user, _ *cluster) (int, string) {
			u.good.Store("none")
			u.has(t, "some")
			return 2, "rejects its credentials"
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUser(t)
			c := u.cluster(t, WebSocket)
			runs, says := prepare(u, c)
			for _, err := range many(t, c, 100) {
				var denied *fwd.UnreachedError
				if !errors.As(err, &denied) || denied.Reason != fwd.Denied || strings.Contains(err.Error(), "\n") {
					t.Errorf("got %v", err)
				}
			}
			asked := u.requests()
			text := wantUnreached(t, c, fwd.Denied, "run the plugin by hand")
			if n := u.runs(); n != runs || !strings.Contains(text, says) {
				t.Errorf("the plugin ran %d times, want %d: %s", n, runs, text)
			}
			if again := u.requests(); len(again) != 0 {
				t.Errorf("the server was asked for %v, and %v after that", asked, again)
			}
		})
	}
}
