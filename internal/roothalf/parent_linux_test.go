package roothalf

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// A process that a root shell leaves behind isn't sudo's, whoever adopts it: the user's
// systemd is a subreaper.
func TestSubreaperIsNotSudo(t *testing.T) {
	switch os.Getenv("TEST_ROLE") {
	case "subreaper":
		adopt(t)
		return
	case "adopted":
		if _, err := io.Copy(io.Discard, os.NewFile(3, "orphaned")); err != nil { // ends when the shells have exited
			t.Fatal(err)
		}
		if got, want := strconv.Itoa(os.Getppid()), os.Getenv("TEST_SUBREAPER"); got != want {
			t.Fatalf("got parent %s, want %s", got, want)
		}
		reportStarted(t)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	result := filepath.Join(t.TempDir(), "result")
	command := exec.CommandContext(t.Context(), self, "-test.run=^TestSubreaperIsNotSudo$")
	command.Env = append(os.Environ(), "TEST_ROLE=subreaper", "TEST_STARTED_FOR="+strconv.Itoa(os.Getuid()), "TEST_RESULT="+result, "SUDO_COMMAND=/usr/bin/bash -i")
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if got, err := os.ReadFile(result); err != nil || string(got) != "false" {
		t.Errorf("got %q, %v; want false", got, err)
	}
}

// adopt becomes the parent of a process that a subshell leaves behind.
func adopt(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	orphaned, shellsRun, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	shell := exec.CommandContext(t.Context(), "/bin/sh", "-c", `("$0" '-test.run=^TestSubreaperIsNotSudo$' &)`, os.Args[0])
	shell.ExtraFiles = []*os.File{orphaned}
	shell.Env = append(os.Environ(), "TEST_ROLE=adopted", "TEST_SUBREAPER="+strconv.Itoa(os.Getpid()))
	if err := shell.Run(); err != nil {
		t.Fatal(err)
	}
	if err := shellsRun.Close(); err != nil {
		t.Fatal(err)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(-1, &status, 0, nil); err != nil || status.ExitStatus() != 0 {
		t.Fatalf("the adopted process: got exit status %d, %v", status.ExitStatus(), err)
	}
}
