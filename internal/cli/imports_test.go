package cli_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/kubeshore/kubeshore/"

// leaves are small packages that any other may import.
var leaves = []string{
	"internal/backoff", "internal/blocking", "internal/cleanup", "internal/dnsname", "internal/logevent", "internal/netaddr", "internal/portlist", "internal/printable", "internal/rootonly", "internal/similar", "internal/wake",
}

// imports has the packages of ours that each package may import besides leaves. It is
// the table of docs/architecture.md.
var imports = map[string][]string{
	"cmd/kubeshore":      {"internal/cli"},
	"cmd/kubeshore-root": {"internal/failure", "internal/roothalf"},
	"internal/cli": {
		"internal/config", "internal/daemon", "internal/failure", "internal/launch", "internal/machine", "internal/project", "internal/roothalf", "internal/servicetable",
		"internal/term", "internal/userdirs", "internal/version", "pkg/control", "pkg/credential", "pkg/hosts", "pkg/kube", "pkg/loopback",
	},
	"internal/launch": {
		"internal/config", "internal/controlserver", "internal/daemon", "internal/failure", "internal/machine", "internal/namepolicy", "internal/peer", "internal/roothalf", "internal/stopsignal",
		"internal/term", "internal/userdirs", "internal/version", "pkg/control", "pkg/credential",
	},
	"internal/daemon": {
		"internal/config", "internal/controlserver", "internal/failure", "internal/machine", "internal/resolver", "internal/stopsignal", "internal/term", "internal/userdirs", "internal/version",
		"pkg/control", "pkg/credential", "pkg/fwd", "pkg/hosts", "pkg/kube", "pkg/listen", "pkg/loopback", "pkg/plan", "pkg/tunnel",
	},
	"internal/config":                   {"internal/failure", "internal/namepolicy", "internal/project", "internal/version", "pkg/credential", "pkg/kube", "pkg/loopback", "pkg/plan"},
	"internal/machine":                  {"internal/failure", "internal/namepolicy", "internal/version", "pkg/hosts", "pkg/keeper", "pkg/listen", "pkg/loopback"},
	"internal/controlserver":            {"internal/peer", "pkg/control", "pkg/fwd", "pkg/plan"},
	"internal/controlserver/servertest": {"internal/controlserver", "pkg/control"},
	"internal/failure":                  {},
	"internal/namepolicy":               {},
	"internal/peer":                     {},
	"internal/project":                  {"internal/failure", "internal/namepolicy", "pkg/loopback"},
	"internal/resolver":                 {},
	"internal/roothalf":                 {"internal/failure", "internal/machine", "internal/namepolicy", "internal/peer", "internal/stopsignal", "internal/version", "pkg/hosts", "pkg/keeper", "pkg/loopback"},
	"internal/servicetable":             {"internal/daemon", "internal/term", "pkg/control"},
	"internal/stopsignal":               {},
	"internal/term":                     {},
	"internal/term/termtest":            {},
	"internal/userdirs":                 {},
	"internal/version":                  {},
	"pkg/control":                       {"internal/peer"},
	"pkg/credential":                    {"pkg/fwd"},
	"pkg/fwd":                           {"pkg/plan"},
	"pkg/hosts":                         {},
	"pkg/keeper":                        {"internal/namepolicy", "pkg/listen"},
	"pkg/kube":                          {"pkg/credential", "pkg/fwd", "pkg/plan"},
	"pkg/listen":                        {},
	"pkg/loopback":                      {},
	"pkg/plan":                          {"internal/namepolicy"},
	"pkg/tunnel":                        {"internal/backoff", "internal/printable", "internal/wake", "pkg/credential", "pkg/fwd", "pkg/plan"},
}

// kubernetes lists the packages that may import Kubernetes packages.
var kubernetes = []string{"internal/config", "internal/term", "pkg/credential", "pkg/kube", "pkg/tunnel"}

// goList runs go list, and returns its output.
func goList(t *testing.T, args ...string) []byte {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return output
}

// The packages import each other as documented in docs/architecture.md.
func TestImports(t *testing.T) {
	seen := 0
	output := goList(t, "-json=ImportPath,Imports", module+"cmd/...", module+"internal/...", module+"pkg/...")
	for d := json.NewDecoder(bufio.NewReader(bytes.NewReader(output))); ; {
		var pkg struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(pkg.ImportPath, module)
		if slices.Contains(leaves, name) {
			checkImports(t, name, nil, pkg.Imports)
			continue
		}
		allowed, known := imports[name]
		if !known {
			t.Errorf("%s is not in the table", name)
		}
		seen++
		checkImports(t, name, slices.Concat(allowed, leaves), pkg.Imports)
	}
	if seen != len(imports) {
		t.Errorf("got %d packages, want the table's %d", seen, len(imports))
	}
}

func checkImports(t *testing.T, name string, allowed, imports []string) {
	t.Helper()
	for _, imported := range imports {
		switch ours, isOurs := strings.CutPrefix(imported, module); {
		case isOurs && !slices.Contains(allowed, ours):
			t.Errorf("%s imports %s", name, ours)
		case strings.HasPrefix(imported, "k8s.io/") && !slices.Contains(kubernetes, name):
			t.Errorf("%s imports %s", name, imported)
		}
	}
}

// modulesOfRoot are the modules of other authors that cmd/kubeshore-root consists of.
var modulesOfRoot = []string{
	"github.com/cilium/ebpf", "github.com/fsnotify/fsnotify", "github.com/rogpeppe/go-internal", "github.com/shirou/gopsutil/v4",
	"github.com/sirupsen/logrus", "github.com/spf13/pflag", "github.com/tklauser/go-sysconf", "github.com/tklauser/numcpus",
	"github.com/txn2/txeh", "golang.org/x/sync", "golang.org/x/sys",
}

// The program that runs as root has no Kubernetes client, no parser of files that a
// user writes, and no HTTP.
func TestRootDependencies(t *testing.T) {
	modules := make(map[string]bool)
	output := goList(t, "-deps", "-f", "{{.ImportPath}} {{with .Module}}{{.Path}}{{end}}", module+"cmd/kubeshore-root")
	for line := range strings.Lines(string(output)) {
		name, from, _ := strings.Cut(strings.TrimSpace(line), " ")
		for _, part := range []string{"k8s.io/", "yaml", "net/http", "text/template", "encoding/gob", "/pkg/fwd", "/pkg/plan", "/pkg/kube", "cobra", "prometheus"} {
			if strings.Contains(name, part) {
				t.Errorf("cmd/kubeshore-root depends on %s", name)
			}
		}
		if from != "" && from+"/" != module {
			modules[from] = true
		}
	}
	if got := slices.Sorted(maps.Keys(modules)); !slices.Equal(got, modulesOfRoot) {
		t.Errorf("got modules %q, want %q", got, modulesOfRoot)
	}
}
