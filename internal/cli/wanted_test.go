package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus/hooks/test"

	"github.com/kubeshore/kubeshore/internal/project"
)

const oneContext = `
apiVersion: v1
kind: Config
clusters: [{name: k, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: dev, context: {cluster: k, user: u, namespace: shop}}]
current-context: dev
`

// inProject returns what is wanted in a new working directory, which may have a
// project's file, and its log.
func inProject(t *testing.T, said selection, file string) (*wanted, *test.Hook) {
	t.Helper()
	t.Chdir(t.TempDir())
	if file != "" {
		writeFile(t, project.Name, file)
	}
	kubeconfig := filepath.Join(t.TempDir(), "config")
	writeFile(t, kubeconfig, oneContext)
	log, lines := test.NewNullLogger()
	w, err := newWanted(said, kubeconfig, "", log)
	if err != nil {
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

// logged returns what a log has got since the last time.
func logged(lines *test.Hook) string {
	var b strings.Builder
	for _, entry := range lines.AllEntries() {
		b.WriteString(entry.Message + "\n")
	}
	lines.Reset()
	return b.String()
}

// What is forwarded is said, and where bare names lead when the order of
// namespaces changes.
func TestAnnounce(t *testing.T) {
	w, lines := inProject(t, selection{}, "namespaces: [shop, data]")
	const server = "context dev (https://127.0.0.1:1), "
	for _, c := range []struct{ file, want string }{
		{"namespaces: [shop, data]", "namespaces shop, data; bare names are those of shop\n"},
		{"namespaces: [data, shop]", "namespaces data, shop; bare names are those of data\n"},
		{"namespaces: [data]", "namespaces data\n"},
		{"namespaces: ['*']", "all namespaces; bare names are those of shop\n"},
	} {
		writeFile(t, project.Name, c.file)
		if err := w.read(); err != nil {
			t.Fatal(err)
		}
		w.announce()
		if got := logged(lines); got != server+c.want {
			t.Errorf("%s: it says %s", c.file, got)
		}
	}
}

// A project's file is taken up when it comes, when it changes and when it comes
// back; what it said stands while it is away.
func TestProjectFileComesLater(t *testing.T) {
	w, lines := inProject(t, selection{}, "")
	domain := func() string { return w.options().Domain }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.watch(ctx) }()
	become := func(what string, change func(), is func() bool) {
		t.Helper()
		for deadline := time.After(20 * time.Second); !is(); {
			change() // it may not watch yet
			select {
			case <-time.After(5 * settleTime):
			case <-deadline:
				t.Fatalf("%s: it isn't taken up; the log has %s", what, logged(lines))
			}
		}
	}
	become("made", func() { writeFile(t, project.Name, "domain: a") }, func() bool { return domain() == "a" })
	become("changed", func() { writeFile(t, project.Name, "domain: b") }, func() bool { return domain() == "b" })
	logged(lines)
	become("removed", func() { _ = os.Remove(project.Name) }, func() bool { return strings.Contains(logged(lines), "what it said before stands") })
	if domain() != "b" || len(w.problems()) != 1 {
		t.Errorf("without the file the domain is %q, and its problems are %q", domain(), w.problems())
	}
	become("made again", func() { writeFile(t, project.Name, "domain: c") }, func() bool { return domain() == "c" })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(w.problems()) > 0 {
		t.Errorf("in the end its problems are %q", w.problems())
	}
}
