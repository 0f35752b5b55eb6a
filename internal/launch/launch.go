// Package launch decides which processes run, and as which users: the daemon as the
// user, the keeper and its guard as root, in the foreground or in the background.
//
//	kubeshore up               the daemon; sudo starts its keeper (keeper-connect, keeper, guard)
//	sudo kubeshore up          the keeper; it starts the daemon as the user who invoked sudo
//	kubeshore up, by root      daemon and machine in one process, and a guard
//	kubeshore up --rootless    the daemon alone
//	kubeshore up --detach      a process that starts one of these in a new session
package launch

import (
	"errors"
	"time"

	"github.com/kubeshore/kubeshore/internal/failure"
)

// Options decides which processes a run consists of.
type Options struct {
	User        string        // user to run as; empty: the one who invoked sudo
	Rootless    bool          // run without root
	WaitTimeout time.Duration // how long Detach waits for services to become ready
	Verbosity   int           // of the log
}

var errRootlessUnderSudo = failure.Usage(failure.WithHint(errors.New("--rootless can't be used with sudo"), "run kubeshore up --rootless without sudo"))
