package control

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Programs that use the client must not get the daemon's dependencies with it.
func TestImportsStayFew(t *testing.T) {
	const module = "github.com/kubeshore/kubeshore/"
	allowed := []string{module + "pkg/control", module + "internal/peer"}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(string(out)) {
		if !slices.Contains(allowed, name) && !strings.HasPrefix(name, "golang.org/x/sys/") {
			t.Errorf("pkg/control depends on %s, want only the standard library, golang.org/x/sys and %v", name, allowed)
		}
	}
}
