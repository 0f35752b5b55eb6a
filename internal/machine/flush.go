package machine

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/sirupsen/logrus"
)

// FlushCommand is the hidden command that flushes the system's DNS cache. See
// [DNSCacheFlusher].
const FlushCommand = "flush-names"

// RootPath is the PATH of processes that run as root: the system's directories
// only.
const RootPath = "/usr/sbin:/usr/bin:/sbin:/bin"

// RootEnv returns the environment of processes that run as root. It has none of the
// user's variables.
func RootEnv() []string { return []string{"PATH=" + RootPath} }

// SelfCommand returns a command that runs this program. On Linux it runs the file that
// this process was started from, even if that was replaced meanwhile: whoever can
// replace the file must not get root by that.
func SelfCommand(ctx context.Context, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, self, args...)
	if runtime.GOOS == "linux" {
		command.Path = "/proc/self/exe" // proc(5): resolved in the child, which has the same file until then
	}
	return command, nil
}

// DNSCacheFlusher returns a function that flushes the system's DNS cache. That runs
// programs found by PATH, so a separate process does it, with RootEnv.
func DNSCacheFlusher(log logrus.FieldLogger) func(context.Context) {
	return func(ctx context.Context) {
		command, err := SelfCommand(ctx, FlushCommand)
		if err != nil {
			log.Debugf("couldn't flush the DNS cache: %v", err)
			return
		}
		if runtime.GOOS != "windows" {
			command.Env = RootEnv()
		}
		if output, err := command.CombinedOutput(); err != nil {
			log.Debugf("couldn't flush the DNS cache: %v: %s", err, strings.TrimSpace(string(output)))
		}
	}
}
