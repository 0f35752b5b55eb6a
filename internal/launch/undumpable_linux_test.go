package launch

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary is run again as another user, once to have a descriptor and once to take
// it from its parent.
const (
	holderEnv = "LAUNCH_TEST_HOLDER"
	takerEnv  = "LAUNCH_TEST_TAKER"
)

// again runs the test binary again, whose path other users may not reach.
func again(variables ...string) *exec.Cmd {
	command := exec.Command("/proc/self/exe", "-test.run=^TestNoOtherProgramTakesTheKeepersConnection$")
	command.Env = append(os.Environ(), variables...)
	return command
}

// take takes the parent's stdin, and reports the result.
func take() {
	result := "taken"
	pidfd, err := unix.PidfdOpen(os.Getppid(), 0)
	if err == nil {
		_, err = unix.PidfdGetfd(pidfd, 0, 0)
	}
	if err != nil {
		result = err.Error()
	}
	_, _ = os.Stdout.WriteString("result: " + result + "\n")
}

func TestNoOtherProgramTakesTheKeepersConnection(t *testing.T) {
	if os.Getenv(takerEnv) != "" {
		take()
		return
	}
	if how := os.Getenv(holderEnv); how != "" {
		if how == "protected" {
			if err := keepConnection(); err != nil {
				t.Fatal(err)
			}
		}
		taker := again(takerEnv + "=yes")
		taker.Stdout = os.Stdout
		if err := taker.Run(); err != nil {
			t.Fatal(err)
		}
		return
	}
	for how, want := range map[string]string{"open": "result: taken", "protected": "result: operation not permitted"} {
		holder := again(holderEnv + "=" + how)
		if os.Geteuid() == 0 {
			holder.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		output, err := holder.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", how, err, output)
		}
		if how == "open" && strings.Contains(string(output), "not permitted") {
			t.Skip("this system lets nobody take descriptors")
		}
		if !strings.Contains(string(output), want) {
			t.Errorf("%s: got %s, want %s", how, output, want)
		}
	}
}
