package config

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus/hooks/test"

	"github.com/kubeshore/kubeshore/internal/project"
	"github.com/kubeshore/kubeshore/pkg/credential"
)

const oneContext = `
apiVersion: v1
kind: Config
clusters: [{name: k, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: dev, context: {cluster: k, user: u, namespace: shop}}]
current-context: dev
`

// watcherIn returns a watcher in a new working directory, with a project file unless
// file is empty, and its log.
func watcherIn(t *testing.T, file string) (*Watcher, *test.Hook) {
	t.Helper()
	t.Chdir(t.TempDir())
	if file != "" {
		writeFile(t, project.Name, file)
	}
	kubeconfig := filepath.Join(t.TempDir(), "config")
	writeFile(t, kubeconfig, oneContext)
	log, lines := test.NewNullLogger()
	w := NewWatcher(Options{Kubeconfig: kubeconfig}, credential.NewPlugins(nil, nil), log)
	if err := w.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w, lines
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// logged returns the messages that were logged since the last call.
func logged(lines *test.Hook) string {
	var b strings.Builder
	for _, entry := range lines.AllEntries() {
		b.WriteString(entry.Message + "\n")
	}
	lines.Reset()
	return b.String()
}

// The log has the namespaces, and the one that short names resolve to.
func TestAnnounce(t *testing.T) {
	w, lines := watcherIn(t, "namespaces: [orders, stock]")
	const server = "context dev (https://127.0.0.1:1), "
	for _, c := range []struct{ file, want string }{
		{"namespaces: [orders, stock]", "namespaces orders, stock; short names resolve to namespace orders\n"},
		{"namespaces: [stock, orders]", "namespaces stock, orders; short names resolve to namespace stock\n"},
		{"namespaces: [stock]", "namespaces stock\n"},
		{"namespaces: ['*']", "all namespaces; short names resolve to namespace shop\n"},
	} {
		writeFile(t, project.Name, c.file)
		if err := w.read(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.Announce()
		if got := logged(lines); got != server+c.want {
			t.Errorf("%s: got %s, want %s", c.file, got, server+c.want)
		}
	}
}

// A project file is read when it is created, changed and created again. While it is
// missing, the previous settings are kept.
func TestProjectFileIsFollowed(t *testing.T) {
	w, lines := watcherIn(t, "")
	namespace := func() string { return w.PlanOptions().Contexts[0].Namespace }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.Watch(ctx)
	}()
	await := func(what string, change func(), is func() bool) {
		t.Helper()
		for deadline := time.After(20 * time.Second); !is(); {
			change() // the watcher may not have started
			select {
			case <-time.After(5 * writeQuietWindow):
			case <-deadline:
				t.Fatalf("%s: no effect; the log has %s", what, logged(lines))
			}
		}
	}
	await("created", func() { writeFile(t, project.Name, "namespaces: a") }, func() bool { return namespace() == "a" })
	await("changed", func() { writeFile(t, project.Name, "namespaces: b") }, func() bool { return namespace() == "b" })
	logged(lines)
	await("removed", func() { _ = os.Remove(project.Name) }, func() bool { return strings.Contains(logged(lines), "keeping the previous settings") })
	if namespace() != "b" || len(w.Problems()) != 1 {
		t.Errorf("without the file: got namespace %q and problems %q, want namespace b and a problem", namespace(), w.Problems())
	}
	await("created again", func() { writeFile(t, project.Name, "namespaces: c") }, func() bool { return namespace() == "c" })
	cancel()
	<-ended
	if len(w.Problems()) > 0 {
		t.Errorf("in the end: got problems %q, want none", w.Problems())
	}
}
