package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kubeshore/kubeshore/internal/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"kubeshore": func() {
			os.Exit(cli.Main(context.Background(), os.Args[1:], cli.Streams{Out: os.Stdout, Err: os.Stderr}))
		},
	})
}

// Each file of testdata is what a user types and what comes of it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status": status,
			"daemon": runDaemon,
		},
		RequireExplicitExec: true,
		UpdateScripts:       flag.Lookup("update").Value.String() == "true",
		Setup: func(env *testscript.Env) error { // one that runs on this machine is none of the test's business
			runtime := filepath.Join(env.WorkDir, ".run")
			env.Setenv("XDG_RUNTIME_DIR", runtime)
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, ".state"))
			return os.Mkdir(runtime, 0o700)
		},
	})
}

// status CODE COMMAND... runs a command that must end with that status, and
// say what is wrong in one line, or in two where the second names --help.
func status(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		got = strconv.Itoa(exit.ExitCode())
	}
	if got != args[0] {
		ts.Fatalf("%s: exit status %s, want %s", strings.Join(args[1:], " "), got, args[0])
	}
	lines := strings.Split(strings.TrimSuffix(ts.ReadFile("stderr"), "\n"), "\n")
	lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, "time=") }) // the log's
	if got != "0" && (!strings.HasPrefix(lines[0], "kubeshore: ") || len(lines) > 2 || (len(lines) == 2) != (got == "2")) {
		ts.Fatalf("%s: stderr has %q", strings.Join(args[1:], " "), lines)
	}
}

const module = "github.com/kubeshore/kubeshore/"

// sharedPackages are small packages that import none of ours. Every other package may import them.
var sharedPackages = []string{"internal/backoff", "internal/cleanup", "internal/dnsname", "internal/netaddr", "internal/printable", "internal/wake"}

// The architecture: which package may import which. docs/architecture.md has the table.
func TestImports(t *testing.T) {
	may := map[string][]string{
		"cmd/kubeshore":          {"internal/cli"},
		"internal/cli":           {"internal/controlserver", "internal/peer", "internal/project", "pkg/control", "pkg/fwd", "pkg/hosts", "pkg/keeper", "pkg/kube", "pkg/listen", "pkg/loopback", "pkg/plan", "pkg/tunnel"},
		"internal/peer":          {},
		"internal/controlserver": {"internal/peer", "pkg/control", "pkg/fwd", "pkg/plan"},
		"internal/backoff":       {}, "internal/dnsname": {}, "internal/netaddr": {}, "internal/printable": {}, "internal/wake": {},
		"internal/project": {"pkg/loopback"},
		"pkg/control":      {"internal/peer"},
		"pkg/credential":   {"pkg/fwd"},
		"pkg/fwd":          {"internal/netaddr", "pkg/plan"},
		"pkg/plan":         {},
		"pkg/hosts":        {},
		"pkg/kube":         {"pkg/credential", "pkg/fwd", "pkg/plan"},
		"pkg/keeper":       {"pkg/listen"},
		"pkg/listen":       {},
		"pkg/loopback":     {},
		"pkg/tunnel":       {"pkg/credential", "pkg/fwd", "pkg/plan"},
	}
	for _, name := range sharedPackages {
		may[name] = nil
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", module+"cmd/...", module+"internal/...", module+"pkg/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for d := json.NewDecoder(bufio.NewReader(bytes.NewReader(out))); ; seen++ {
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
		imports, known := may[name]
		if !known {
			t.Errorf("%s is not in this table", name)
		}
		allowed := imports
		if !slices.Contains(sharedPackages, name) {
			allowed = slices.Concat(imports, sharedPackages)
		}
		for _, imported := range pkg.Imports {
			switch ours, isOurs := strings.CutPrefix(imported, module); {
			case isOurs && !slices.Contains(allowed, ours):
				t.Errorf("%s imports %s", name, ours)
			case strings.HasPrefix(imported, "k8s.io/") && len(imports) == 0:
				t.Errorf("%s imports %s", name, imported)
			}
		}
	}
	if seen != len(may) {
		t.Errorf("%d packages, %d in the table", seen, len(may))
	}
}

// What runs as root knows nothing of clusters, and reads nothing that a user has
// written.
func TestKeeperKnowsNothing(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", module+"pkg/keeper").Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.Lines(string(out)) {
		for _, part := range []string{"k8s.io/", "yaml", "net/http", "text/template", "/pkg/fwd"} {
			if strings.Contains(name, part) {
				t.Errorf("pkg/keeper depends on %s", name)
			}
		}
	}
}
