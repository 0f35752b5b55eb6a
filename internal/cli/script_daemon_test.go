package cli_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kubeshore/kubeshore/internal/controlserver"
	"github.com/kubeshore/kubeshore/pkg/control"
)

// scriptDaemon is a daemon whose status a script sets.
type scriptDaemon struct {
	end context.CancelFunc

	mu      sync.Mutex
	status  control.Status
	changed chan struct{}
}

func (d *scriptDaemon) Status() control.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status
}

func (d *scriptDaemon) Ready(_ context.Context, names []string) control.Readiness {
	return control.ReadinessOf(d.Status(), names)
}

func (d *scriptDaemon) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

func (d *scriptDaemon) AddNamespaces(c control.NamespaceChange) error {
	return d.change(func(namespaces []string) []string { return append(slices.Clip(namespaces), c.Namespaces...) })
}

func (d *scriptDaemon) RemoveNamespaces(c control.NamespaceChange) error {
	return d.change(func(namespaces []string) []string {
		return slices.DeleteFunc(slices.Clone(namespaces), func(n string) bool { return slices.Contains(c.Namespaces, n) })
	})
}

// change changes the namespaces of the first context; there must be some left.
func (d *scriptDaemon) change(to func([]string) []string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	namespaces := to(d.status.Contexts[0].Namespaces)
	if len(namespaces) == 0 {
		return errors.New("can't remove the last namespace")
	}
	d.status.Contexts = slices.Clone(d.status.Contexts)
	d.status.Contexts[0].Namespaces = namespaces
	close(d.changed)
	d.changed = make(chan struct{})
	return nil
}

func (d *scriptDaemon) LogIn(l control.Login) error {
	if l.Token != "t" {
		return errors.New("a wrong token")
	}
	return nil
}

func (d *scriptDaemon) Stop() { d.end() }

// runDaemon STATUS LOG runs a daemon until the end of the script, or until it is stopped.
// The arguments are files with its status and its log.
func runDaemon(ts *testscript.TestScript, _ bool, args []string) {
	runtime, err := os.MkdirTemp("", "cli") // short, because a socket's path has to be
	ts.Check(err)
	ts.Defer(func() { _ = os.RemoveAll(runtime) })
	ts.Setenv("XDG_RUNTIME_DIR", runtime)
	ctx, cancel := context.WithCancel(context.Background())
	d := &scriptDaemon{end: cancel, changed: make(chan struct{})}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &d.status))
	journal := new(controlserver.Journal)
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		_, err := journal.Write([]byte(line))
		ts.Check(err)
	}
	l, err := controlserver.Listen(ctx, filepath.Join(runtime, "kubeshore"))
	ts.Check(err)
	ended := make(chan error, 1)
	server := controlserver.Server{Version: d.status.Version, Daemon: d, Journal: journal}
	go func() { ended <- server.Serve(ctx, l) }()
	ts.Defer(func() {
		cancel()
		ts.Check(<-ended)
	})
}
