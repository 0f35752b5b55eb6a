package daemon

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sirupsen/logrus/hooks/test"

	"github.com/kubeshore/kubeshore/internal/config"
	"github.com/kubeshore/kubeshore/internal/controlserver/servertest"
	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/pkg/control"
	"github.com/kubeshore/kubeshore/pkg/credential"
	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/listen"
)

const oneContext = `{apiVersion: v1, kind: Config, clusters: [{name: k, cluster: {server: "https://127.0.0.1:1"}}], ` +
	`contexts: [{name: dev, context: {cluster: k, namespace: shop}}], current-context: dev}`

// writeKubeconfig writes a kubeconfig whose API server can't be reached.
func writeKubeconfig(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte(oneContext), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A second daemon is refused with the first one's description and a hint.
func TestCheckNotRunning(t *testing.T) {
	for want, response := range map[string]string{
		"; stop it with 'kubeshore down', or add to it with 'kubeshore add'": `{"pid": 7}`,
		"; kubeshore is shutting down; try again in a moment":                `{"pid": 7, "stopping": true}`,
		"; stop it with 'kill ": `{"services": "none"}`,
	} {
		dir := servertest.ServeHandler(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(control.VersionHeader, "v9")
			_, _ = io.WriteString(w, response)
		})
		if err := checkNotRunning(t.Context(), []string{dir}); err == nil || !strings.Contains(failure.Line(err), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if err := checkNotRunning(t.Context(), []string{t.TempDir()}); err != nil {
		t.Errorf("without a daemon: %v", err)
	}
}

// The API shows and stops a daemon whose machine isn't open yet.
func TestAPIBeforeTheMachineIsOpen(t *testing.T) {
	kubeconfig := writeKubeconfig(t)
	t.Chdir(t.TempDir())
	log, _ := test.NewNullLogger()
	o := Options{Config: config.Options{Spec: config.Spec{Namespaces: []string{"shop"}}, Kubeconfig: kubeconfig}}
	watcher := config.NewWatcher(o.Config, credential.NewPlugins(nil, nil), log)
	if err := watcher.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	clients, err := listen.NewClients(listen.ForEveryone)
	if err != nil {
		t.Fatal(err)
	}
	defer clients.Close()
	canceled := false
	d := newDaemon(o, watcher, clients, log, func() { canceled = true })
	if status := d.Status(); status.Synced || status.Stopping || len(status.Contexts) != 1 || !slices.Equal(status.Contexts[0].Reading, []string{"shop"}) {
		t.Errorf("status at first: got %+v", status)
	}
	changed := d.Changed()
	d.Stop()
	<-changed
	if status := d.Status(); !status.Stopping || !canceled {
		t.Errorf("status after Stop: got %+v, canceled %t", status, canceled)
	}
}

// Waiters are woken when the machine is opened, and by the engine from then on.
func TestChangedWhenTheMachineIsOpened(t *testing.T) {
	log, _ := test.NewNullLogger()
	d := newDaemon(Options{}, nil, nil, log, func() {})
	before := d.Changed()
	engine := new(fwd.Engine)
	d.forward.Store(&forwarder{engine: engine})
	d.changed.Fire()
	<-before
	after := d.Changed()
	select {
	case <-after:
		t.Fatal("a waiter was woken without a change")
	default:
	}
	engine.NotifyChanged()
	<-after
	announced := d.Changed()
	d.announce()
	<-announced
}
