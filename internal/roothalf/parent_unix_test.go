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

// reportStarted is the helper process of the tests of isStartedBySudo: it writes the result
// for the user with the ID in a variable to a file.
func reportStarted(t *testing.T) {
	id, err := strconv.ParseUint(os.Getenv("TEST_STARTED_FOR"), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(os.Getenv("TEST_RESULT"), strconv.AppendBool(nil, isStartedBySudo(uint32(id))), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A program that sudo starts for a user has a parent named sudo, or one of the user's.
// In a root shell the parent is neither, or the command isn't the one that sudo ran.
func TestIsStartedBySudo(t *testing.T) {
	if os.Getenv("TEST_STARTED_FOR") != "" {
		reportStarted(t)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, as sudo's process")
	}
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const flag = "-test.run=^TestIsStartedBySudo$"
	direct := self + " " + flag
	for _, c := range []struct {
		parent, command string
		uid             int
		want            string
	}{
		{"sudo", direct, 1, "true"},
		{"sudo", "/usr/bin/env A=b " + direct, 1, "true"},
		{"sudo", "/usr/bin/bash", 1, "false"}, // a subreaper became sudo
		{"bash", direct, 1, "false"},
		{"make", direct, 1, "false"},
		{"bash", direct, 0, "true"}, // sudo became this process
		{"bash", "/usr/bin/env A=b " + direct, 0, "true"},
		{"bash", "/usr/bin/bash -i", 0, "false"},
		{"bash", direct + " -n dev", 0, "false"},
		{"bash", "", 0, "false"},
	} {
		parent := filepath.Join(dir, c.parent)
		shell, err := os.ReadFile("/bin/sh")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(parent, shell, 0o755); err != nil {
			t.Fatal(err)
		}
		result := filepath.Join(dir, "result")
		command := exec.Command(parent, "-c", `"$0" "$1"; exit $?`, self, flag)
		command.Env = append(os.Environ(), "TEST_STARTED_FOR="+strconv.Itoa(c.uid), "TEST_RESULT="+result, "SUDO_COMMAND="+c.command)
		if output, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		if got, err := os.ReadFile(result); err != nil || strings.TrimSpace(string(got)) != c.want {
			t.Errorf("parent %s, user %d, command %q: got %q, %v; want %s", c.parent, c.uid, c.command, got, err, c.want)
		}
	}
}
