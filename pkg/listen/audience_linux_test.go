package listen_test

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/kubeshore/kubeshore/pkg/listen"
)

// limitVariable is the number of descriptors of the process that
// TestFailureNeverWidensAudience starts.
const limitVariable = "TEST_AUDIENCE_DESCRIPTORS"

// The default audience of a user is that user alone. If a connection's user can't be
// identified, e.g. because no descriptor is free, that is an error.
func TestFailureNeverWidensAudience(t *testing.T) {
	if os.Getenv(limitVariable) != "" {
		printAudience(t)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become another user")
	}
	for limit, want := range map[string]string{"many": "audience me", "none": "audience refused"} {
		command := exec.Command("/proc/self/exe", "-test.run=^TestFailureNeverWidensAudience$", "-test.v")
		command.Env = append(os.Environ(), limitVariable+"="+limit)
		command.Dir = "/"
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 64001, Gid: 64001}}
		if output, err := command.CombinedOutput(); err != nil || !strings.Contains(string(output), want+"\n") {
			t.Errorf("descriptors: %s: got %s, %v, want %s", limit, output, err, want)
		}
	}
}

// printAudience prints the default audience.
func printAudience(t *testing.T) {
	if os.Getenv(limitVariable) == "none" {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 3, Max: 3}); err != nil {
			t.Fatal(err)
		}
	}
	clients, err := listen.NewClients("")
	if err != nil {
		println("audience refused") // the builtin needs no descriptor
		return
	}
	println("audience " + string(clients.Audience()))
	clients.Close()
}
