//go:build linux || darwin

package roothalf

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A program that sudo starts for a user has a parent named sudo, or one of the user's.
// In a root shell the parent is neither.
func TestIsStartedBySudo(t *testing.T) {
	if uid := os.Getenv("TEST_STARTED_FOR"); uid != "" {
		id, err := strconv.ParseUint(uid, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(os.Getenv("TEST_RESULT"), strconv.AppendBool(nil, isStartedBySudo(uint32(id))), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"sudo": "true", "bash": "false", "make": "false"} {
		parent := filepath.Join(dir, name)
		shell, err := os.ReadFile("/bin/sh")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(parent, shell, 0o755); err != nil {
			t.Fatal(err)
		}
		result := filepath.Join(dir, "result")
		command := exec.Command(parent, "-c", `"$0" -test.run='^TestIsStartedBySudo$'; exit $?`, self)
		command.Env = append(os.Environ(), "TEST_STARTED_FOR="+strconv.Itoa(os.Getuid()+1), "TEST_RESULT="+result)
		if output, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		if got, err := os.ReadFile(result); err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("parent %s: got %q, %v; want %s", name, got, err, want)
		}
	}
	if !isStartedBySudo(uint32(os.Getuid())) {
		t.Error("parent of the same user: got false, want true")
	}
}
