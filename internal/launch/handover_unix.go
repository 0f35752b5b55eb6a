//go:build !windows

package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/kubeshore/kubeshore/internal/config"
	"github.com/kubeshore/kubeshore/internal/daemon"
	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/pkg/credential"
)

const (
	// handoverEnv has the descriptor of a pipe with the handover to a daemon in the
	// background. Secrets never pass through a file, a variable or an argument.
	handoverEnv = "KUBESHORE_HANDOVER"
)

// handover is what Detach read and got from credential plugins while it had the
// terminal, for the daemon that it starts.
type handover struct {
	Credentials []credential.Handover `json:"credentials,omitempty"`
	// Pipes has the contents of kubeconfigs that can't be read again, by path.
	Pipes map[string][]byte `json:"pipes,omitempty"`
	// Kubeconfig is the path of --kubeconfig among them; often empty.
	Kubeconfig string `json:"kubeconfig,omitempty"`
}

// logIn runs the clusters' credential plugins, which may ask something for as long as
// it takes. It fails if all clusters have plugins and all of these fail; other problems
// with a cluster are left to the daemon.
func (h *handover) logIn(ctx context.Context, watcher *config.Watcher, plugins *credential.Plugins, log logrus.FieldLogger) (err error) {
	var failed []error
	follows := watcher.Resolved().Follow
	for _, follow := range follows {
		cluster, err := watcher.Cluster(ctx, follow.Context)
		if err != nil {
			return err
		}
		if err := cluster.Gate.LogIn(ctx); err != nil {
			failed = append(failed, credential.GiveUp(err))
		}
	}
	if len(failed) == len(follows) {
		return errors.Join(failed...)
	}
	for _, err := range failed {
		log.Warn(failure.Line(err))
	}
	h.Credentials = plugins.Export()
	h.Pipes, err = watcher.Pipes(ctx)
	return err
}

// attach gives command the reading end of a pipe. send must be called after command
// was started, or wasn't: it writes the handover, if command is there to read it.
func (h handover) attach(command *exec.Cmd) (send func(), err error) {
	content, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	addFile(command, handoverEnv, theirs)
	return func() {
		_ = theirs.Close()         // so that the write fails if command has exited
		_, _ = ours.Write(content) // command itself reports that something is missing
		_ = ours.Close()
	}, nil
}

// addFile makes command inherit a file, and tells it the descriptor in a variable.
func addFile(command *exec.Cmd, variable string, file *os.File) {
	command.ExtraFiles = append(command.ExtraFiles, file)
	command.Env = append(command.Env, fmt.Sprintf("%s=%d", variable, 2+len(command.ExtraFiles)))
}

// takeDescriptor returns the descriptor in a variable, and unsets it. ok is false
// without one.
func takeDescriptor(variable string) (fd int, ok bool, err error) {
	text := os.Getenv(variable)
	if text == "" {
		return 0, false, nil
	}
	if err := os.Unsetenv(variable); err != nil {
		return 0, false, err
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, false, fmt.Errorf("invalid %s %q: must be a file descriptor", variable, text)
	}
	unix.CloseOnExec(int(number))
	return int(number), true, nil
}

// takeHandover adds the handover of the process that started this one to d.
func takeHandover(d *daemon.Options) error {
	fd, ok, err := takeDescriptor(handoverEnv)
	if err != nil || !ok {
		return err
	}
	pipe := os.NewFile(uintptr(fd), "handover")
	defer pipe.Close()
	var h handover
	if err := json.NewDecoder(pipe).Decode(&h); err != nil {
		return errors.New("the process that started this daemon exited without a handover")
	}
	d.Credentials, d.Config.Pipes = h.Credentials, h.Pipes
	if len(h.Pipes) > 0 {
		d.Config.Kubeconfig = h.Kubeconfig
	}
	return nil
}
