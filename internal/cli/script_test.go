package cli_test

import (
	"context"
	"errors"
	"flag"
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

// Each script in testdata has commands and their output.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status": status,
			"daemon": runDaemon,
		},
		RequireExplicitExec: true,
		UpdateScripts:       flag.Lookup("update").Value.String() == "true",
		Setup: func(env *testscript.Env) error { // not those of a kubeshore that runs on this machine
			runtime := filepath.Join(env.WorkDir, ".run")
			env.Setenv("XDG_RUNTIME_DIR", runtime)
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, ".state"))
			return os.Mkdir(runtime, 0o700)
		},
	})
}

// status CODE COMMAND... runs a command that must exit with that status, and print its
// error in one line, which a hint and, after a usage error, a pointer to --help may
// follow.
func status(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		got = strconv.Itoa(exit.ExitCode())
	}
	if got != args[0] {
		ts.Fatalf("%s: exit status %s, want %s", strings.Join(args[1:], " "), got, args[0])
	}
	if got == "0" {
		return
	}
	lines := strings.Split(strings.TrimSuffix(ts.ReadFile("stderr"), "\n"), "\n")
	lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, "time=") }) // the log
	rest := lines[1:]
	if len(rest) > 0 && strings.HasPrefix(rest[0], "hint: ") {
		rest = rest[1:]
	}
	if got == "2" && len(rest) == 1 && strings.HasPrefix(rest[0], "See '") {
		rest = nil
	}
	if !strings.HasPrefix(lines[0], "kubeshore: ") || len(rest) > 0 {
		ts.Fatalf("%s: stderr: got %q", strings.Join(args[1:], " "), lines)
	}
}
