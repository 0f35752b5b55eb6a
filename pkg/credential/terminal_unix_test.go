//go:build !windows

package credential_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/term"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/kubeshore/kubeshore/pkg/credential"
)

// terminal is a pseudo-terminal that is lent to plugins.
type terminal struct {
	person *os.File // the person's end
	lines  *bufio.Reader
	tty    *os.File
	mu     sync.Mutex
	lent   int
	atOnce int // the most loans at a time
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	person, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = tty.Close(), person.Close() })
	return &terminal{person: person, lines: bufio.NewReader(person), tty: tty}
}

func (x *terminal) Lend(context.Context) (in, out *os.File, release func(), ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.lent++
	x.atOnce = max(x.atOnce, x.lent)
	modes, err := term.GetState(int(x.tty.Fd()))
	return x.tty, x.tty, func() {
		_ = term.Restore(int(x.tty.Fd()), modes)
		x.mu.Lock()
		defer x.mu.Unlock()
		x.lent--
	}, err == nil
}

// await reads until a text appears.
func (x *terminal) await(t *testing.T, text string) string {
	t.Helper()
	_ = x.person.SetReadDeadline(time.Now().Add(20 * time.Second))
	var b strings.Builder
	for !strings.HasSuffix(b.String(), text) {
		c, err := x.lines.ReadByte()
		if err != nil {
			t.Fatalf("terminal: got %q, %v, want %q", b.String(), err, text)
		}
		b.WriteByte(c)
	}
	return b.String()
}

// asking returns a configuration whose plugin asks for a password.
func asking(host, script string) *rest.Config {
	return &rest.Config{Host: host, ExecProvider: &clientcmdapi.ExecConfig{
		APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: clientcmdapi.IfAvailableExecInteractiveMode,
		Command: "sh", Args: []string{"-c", script},
	}}
}

// password prints what it read as the token.
const password = `stty -echo; printf 'Password: ' >&2; read -r word; stty echo; echo >&2
echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"'$word'"}}'`

// Plugins of several contexts ask one after the other, and each gets its answer. A
// request that times out leaves the prompt, and its answer counts.
func TestPluginsAskOneByOne(t *testing.T) {
	newPlugin(t)
	x := newTerminal(t)
	plugins := credential.NewPlugins(x, nil)
	defer plugins.Close()
	gates := make([]*credential.Gate, 2)
	for i := range gates {
		var err error
		if gates[i], err = credential.NewGate(fmt.Sprint("ctx-", i), asking(fmt.Sprintf("https://%d", i), password), plugins); err != nil {
			t.Fatal(err)
		}
	}
	impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	for _, gate := range gates {
		if err := gate.LogIn(impatient); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an impatient request: got %v", err)
		}
	}
	answers := make(map[string]string)
	for range gates {
		screen := x.await(t, "Password: ")
		_, name, ok := strings.Cut(screen, "context ")
		if name, _, _ = strings.Cut(name, ":"); !ok {
			t.Fatalf("no context before the prompt: %q", screen)
		}
		answers[name] = "secret-" + name
		fmt.Fprintf(x.person, "secret-%s\n", name)
	}
	for i, gate := range gates {
		if err := gate.LogIn(t.Context()); err != nil {
			t.Fatal(err)
		}
		status, _ := gate.Credential()
		if want := answers[fmt.Sprint("ctx-", i)]; status.Token != want {
			t.Errorf("ctx-%d: got token %s, want %s", i, status.Token, want)
		}
		if text := fmt.Sprintf("%v %+v %#v", status, status, status); strings.Contains(text, "secret") {
			t.Errorf("a formatted credential: got %s", text)
		}
	}
	if x.atOnce != 1 {
		t.Errorf("got %d plugins at once in the terminal, want 1", x.atOnce)
	}
}

// Close ends a prompt at once, and the terminal echoes again.
func TestCloseEndsPrompt(t *testing.T) {
	newPlugin(t)
	x := newTerminal(t)
	plugins := credential.NewPlugins(x, nil)
	gate, err := credential.NewGate("ctx", asking("https://a", password), plugins)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- gate.LogIn(t.Context()) }()
	x.await(t, "Password: ")
	begin := time.Now()
	plugins.Close()
	if err := <-ended; err == nil || time.Since(begin) > 2*time.Second {
		t.Errorf("got %v after %v, want an error at once", err, time.Since(begin))
	}
	fmt.Fprintln(x.person, "echoed")
	x.await(t, "echoed")
	if err := gate.LogIn(t.Context()); err == nil {
		t.Error("a plugin ran after Close")
	}
}

// Without a terminal the error has the plugin's own words and the remedy. Another
// process's credential ends a run that nobody can answer.
func TestPluginWithoutTerminal(t *testing.T) {
	newPlugin(t)
	var lines []string
	plugins := credential.NewPlugins(nil, func(plugin, line string) { lines = append(lines, plugin+": "+line) })
	defer plugins.Close()
	always := asking("https://always", password)
	always.ExecProvider.InteractiveMode = clientcmdapi.AlwaysExecInteractiveMode
	for want, config := range map[string]*rest.Config{
		"exit code 3: no terminal; next attempt after ": asking("https://a", `echo 'no terminal' >&2; echo ')' >&2; exit 3`),
		"it needs a terminal to ask for something; ":    always,
	} {
		gate, err := credential.NewGate("ctx", config, plugins)
		if err != nil {
			t.Fatal(err)
		}
		err = gate.LogIn(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasSuffix(err.Error(), "; to run it in a terminal: kubeshore login ctx") {
			t.Errorf("got %v, want %s", err, want)
		}
		if err := gate.Use(credential.Status{Token: "given"}); err != nil {
			t.Error(err)
		}
		if err := gate.LogIn(t.Context()); err != nil {
			t.Errorf("after Use: %v", err)
		}
	}
	if len(lines) != 2 || lines[0] != "sh: no terminal" {
		t.Errorf("output: got %q", lines)
	}
	config := asking("https://hangs", "sleep 1000")
	gate, err := credential.NewGate("ctx", config, plugins)
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- gate.LogIn(t.Context()) }()
	for {
		changed := plugins.Changed()
		if _, running := gate.Waiting(); running {
			break
		}
		<-changed
	}
	if err := gate.Use(credential.Status{Token: "given"}); err != nil {
		t.Error(err)
	}
	if err := <-waiting; err != nil {
		t.Errorf("a run that was replaced: %v", err)
	}
}

// A plugin that isn't installed or not allowed gets no advice to run it.
func TestPluginThatCannotRun(t *testing.T) {
	allowed := filepath.Join(t.TempDir(), "allowed")
	if err := os.WriteFile(allowed, []byte("#!/bin/sh\necho '"+credentials("t", "")+"'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	orphan := filepath.Join(t.TempDir(), "plugin")
	if err := os.WriteFile(orphan, []byte("#!/no/such/interpreter\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		command string
		hint    string
		policy  clientcmdapi.PluginPolicy
		want    string // empty: no error
	}{
		{command: "no-such-plugin", want: "not found in PATH (" + os.Getenv("PATH")[:5]},
		{command: "no-such-plugin", hint: "Install it\n with apt", want: "; Install it with apt"},
		{command: "/no/such/plugin", want: "it is not installed"},
		{command: orphan, want: "the interpreter in the first line of its file is not installed"},
		{command: allowed},
		{command: allowed, policy: clientcmdapi.PluginPolicy{PolicyType: "DenyAll"}, want: "DenyAll"},
		{command: allowed, policy: clientcmdapi.PluginPolicy{PolicyType: "Allowlist", Allowlist: []clientcmdapi.AllowlistEntry{{Command: "sh"}}}, want: "is not in kuberc's credentialPluginAllowlist"},
		{command: allowed, policy: clientcmdapi.PluginPolicy{PolicyType: "Allowlist", Allowlist: []clientcmdapi.AllowlistEntry{{Command: allowed}}}},
	} {
		plugins := credential.NewPlugins(nil, nil)
		config := asking("https://a", "")
		config.ExecProvider.Command, config.ExecProvider.InstallHint, config.ExecProvider.PluginPolicy = c.command, c.hint, c.policy
		gate, err := credential.NewGate("ctx", config, plugins)
		if err != nil {
			t.Fatal(err)
		}
		err = gate.LogIn(t.Context())
		plugins.Close()
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.command, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "login") || strings.Contains(err.Error(), "next attempt") {
			t.Errorf("%s: got %v, want %s and no advice to run it", c.command, err, c.want)
		}
	}
}

// Another process with the same configuration uses an exported credential. One for
// another server or command doesn't.
func TestHandover(t *testing.T) {
	p := newPlugin(t)
	p.setOutput(credentials("token", ""))
	ours := credential.NewPlugins(nil, nil)
	if _, err := p.request(client(t, p.config(), ours, p)); err != nil {
		t.Fatal(err)
	}
	exported := ours.Export()
	for i, change := range []func(*rest.Config){
		func(*rest.Config) {},
		func(c *rest.Config) { c.Host = "https://other" },
		func(c *rest.Config) { c.ExecProvider.Env = []clientcmdapi.ExecEnvVar{{Name: "A", Value: "b"}} },
	} {
		config := p.config()
		change(config)
		theirs := credential.NewPlugins(nil, nil)
		theirs.Import(exported)
		runs, err := p.request(client(t, config, theirs, p))
		if err != nil || runs != i+1 || p.authorization != "Bearer token" {
			t.Errorf("case %d: got %d runs, %v, %s", i, runs, err, p.authorization)
		}
	}
	if runs, _ := p.request(client(t, p.config(), ours, http.RoundTripper(p))); runs != 3 {
		t.Errorf("got %d runs, want 3: one here, and two for other configurations", runs)
	}
}
