package daemon

import (
	"fmt"
	"path/filepath"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/internal/machine"
	"github.com/kubeshore/kubeshore/internal/userdirs"
	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/hosts"
	"github.com/kubeshore/kubeshore/pkg/listen"
	"github.com/kubeshore/kubeshore/pkg/loopback"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// newEngine returns the engine of an opened machine.
func (d *Daemon) newEngine(m machine.Machine, meter fwd.Meter) (*fwd.Engine, error) {
	pool, err := newPool(d.options.Machine, d.log)
	if err != nil {
		return nil, err
	}
	ports := listen.New(m.Ports)
	ports.Admits, ports.AcceptFailed = d.clients.Admits, d.reportAccept
	return &fwd.Engine{
		Options: func() plan.Options {
			options := d.config.PlanOptions()
			options.Enforced = m.NamePolicy
			return options
		},
		Source:       d.config.Source,
		Dialer:       d.dialer,
		Addresses:    pool,
		Aliases:      m.Aliases,
		Ports:        ports,
		Names:        m.Names,
		Log:          d.log,
		HoldTimeout:  d.options.Hold,
		Balance:      d.options.Balance,
		DrainTimeout: d.options.Drain,
		ClientGone:   d.clients.Orphaned,
		Meter:        meter,
	}, nil
}

// newPool returns the pool of the services' addresses. Addresses depend on the
// hosts file, because two runs of a user with different files would otherwise
// take each other's connections.
func newPool(o machine.Options, log logrus.FieldLogger) (*loopback.Pool, error) {
	dir, err := userdirs.StateDir()
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	store := loopback.OpenStore(filepath.Join(dir, "addresses.json"), func(err error) { log.Warn(err) })
	owner := userdirs.UserID()
	if o.HostsFile != hosts.DefaultPath() {
		owner += " " + o.HostsFile
	}
	return loopback.NewPool(o.Prefixes, owner, store)
}
