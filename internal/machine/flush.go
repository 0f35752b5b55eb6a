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

// DNSCacheFlusher returns a function that flushes the system's DNS cache. That runs
// programs found by PATH, so a separate process does it, with RootEnv.
func DNSCacheFlusher(log logrus.FieldLogger) func(context.Context) {
	return func(ctx context.Context) {
		self, err := os.Executable()
		if err != nil {
			log.Debugf("couldn't flush the DNS cache: %v", err)
			return
		}
		command := exec.CommandContext(ctx, self, FlushCommand)
		if runtime.GOOS != "windows" {
			command.Env = RootEnv()
		}
		if output, err := command.CombinedOutput(); err != nil {
			log.Debugf("couldn't flush the DNS cache: %v: %s", err, strings.TrimSpace(string(output)))
		}
	}
}
