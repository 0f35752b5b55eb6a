package daemon

import (
	"os/user"
	"slices"
	"strconv"

	"github.com/kubeshore/kubeshore/internal/printable"
	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/listen"
)

// maxUserName bounds the length of a user's name in messages, in runes.
const maxUserName = 64

// reportRefused logs whose connections are refused.
func (d *Daemon) reportRefused(u listen.User) {
	switch {
	case u.Remote:
		d.log.Warn("refused connections from another machine: the system's route_localnet setting lets them through")
	case !u.Known:
		d.log.Warn("refused connections of clients that had disconnected before their user was known; allow them with --for everyone")
	default:
		d.log.Warnf("refused connections of user %s; allow them with --for everyone", userName(u.UID))
	}
}

// userName returns the name of a user, or its ID if there is no name.
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	found, err := user.LookupId(id)
	if err != nil {
		return id
	}
	return printable.Line(found.Username, maxUserName)
}

// reportAccept reports why connections can't be accepted, or, with nil, that they
// can again.
func (d *Daemon) reportAccept(err error) {
	problem := ""
	if err != nil {
		problem = err.Error()
		d.log.Error(problem)
	} else {
		d.log.Info("accepting connections again")
	}
	d.acceptProblem.Store(&problem)
	d.announce()
}

// problems returns the problems that concern no cluster, with those of the engine.
func (d *Daemon) problems(engine fwd.Status) []string {
	problems := slices.Concat(d.config.Problems(), engine.Problems)
	for _, problem := range []*string{d.acceptProblem.Load(), d.namesProblem.Load()} {
		if problem != nil && *problem != "" {
			problems = append(problems, *problem)
		}
	}
	return problems
}
