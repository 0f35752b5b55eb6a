package daemon

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/kubeshore/kubeshore/internal/controlserver"
	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/version"
	"github.com/kubeshore/kubeshore/pkg/control"
	"github.com/kubeshore/kubeshore/pkg/credential"
	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

var _ controlserver.Daemon = (*Daemon)(nil)

// engineState returns the state of the engine. Until the machine is open there is
// no engine, and the state is empty.
func (d *Daemon) engineState() (status fwd.Status, traffic map[plan.HostID]fwd.Traffic, hostsWrites uint64) {
	f := d.forward.Load()
	if f == nil {
		return fwd.Status{}, nil, 0
	}
	if f.machine.Names != nil {
		hostsWrites = f.machine.Names.Writes()
	}
	return f.engine.Status(), f.engine.Traffic(), hostsWrites
}

// Status implements controlserver.Daemon.
func (d *Daemon) Status() control.Status {
	status, traffic, hostsWrites := d.engineState()
	result := control.Status{
		Overview: control.Overview{
			Version: version.String(), PID: os.Getpid(), Started: d.started, Synced: !status.At.IsZero(), Stopping: d.stopping.Load(),
			Kubeconfig: d.config.Kubeconfig(), ProjectFile: d.config.ProjectFile(), HostsFile: d.options.Machine.HostsFile, LogFile: d.options.LogFile,
			Listening: status.Listening, UpstreamConnections: d.dialer.Connections(), HostsWrites: hostsWrites, Problems: d.problems(status),
			For: string(d.clients.Audience()), RefusedConnections: d.clients.Refused(),
		},
		Services: controlserver.Services(status, traffic),
	}
	current := d.config.Resolved()
	for i, follow := range current.Follow {
		c := control.Context{Name: follow.Context, Namespaces: follow.Namespaces}
		if c.Namespaces == nil {
			c.Namespaces = []string{}
		}
		if i > 0 {
			c.Alias = current.Plan.Contexts[i].Alias
		}
		var read []string
		for _, cluster := range status.Clusters {
			if cluster.Context == follow.Context {
				c.Server, c.Problems, c.Notes, read = cluster.Server, cluster.Problems, cluster.Notes, cluster.Read
			}
		}
		c.Reading = unread(follow.Namespaces, read)
		result.Contexts = append(result.Contexts, c)
	}
	return result
}

// unread returns the followed namespaces that have not been read yet.
func unread(followed, read []string) []string {
	if followed == nil && !slices.Contains(read, "") {
		return []string{control.AllNamespaces}
	}
	return slices.DeleteFunc(slices.Clone(followed), func(namespace string) bool { return slices.Contains(read, namespace) })
}

// Changed implements controlserver.Daemon.
func (d *Daemon) Changed() <-chan struct{} {
	changed := d.changed.C() // before forward is loaded, or the event could be missed
	if f := d.forward.Load(); f != nil {
		return f.engine.Changed()
	}
	return changed
}

// announce wakes those that wait for Changed.
func (d *Daemon) announce() {
	if f := d.forward.Load(); f != nil {
		f.engine.NotifyChanged()
	}
	d.changed.Fire()
}

// AddNamespaces implements controlserver.Daemon.
func (d *Daemon) AddNamespaces(c control.NamespaceChange) error {
	defer d.announce()
	return withHintInText(d.config.AddNamespaces(c.Context, c.Namespaces))
}

// RemoveNamespaces implements controlserver.Daemon.
func (d *Daemon) RemoveNamespaces(c control.NamespaceChange) error {
	defer d.announce()
	return withHintInText(d.config.RemoveNamespaces(c.Context, c.Namespaces))
}

// LogIn implements controlserver.Daemon. A credential for another server than the
// context's would be disclosed to the context's, so it is refused.
func (d *Daemon) LogIn(login control.Login) error {
	cluster, ok := d.config.Source.Cluster(login.Context)
	switch {
	case !ok:
		return fmt.Errorf("context %s is not forwarded, or its kubeconfig entry has not been read yet", login.Context)
	case cluster.Server() != login.Server:
		return fmt.Errorf("the credential is for %s, but context %s uses %s", login.Server, login.Context, cluster.Server())
	}
	status := credential.Status{
		Token: login.Token, ClientCertificateData: login.ClientCertificateData, ClientKeyData: login.ClientKeyData, Expires: login.Expires,
	}
	if err := cluster.Gate.Use(status); err != nil {
		return err
	}
	d.log.Infof("context %s: using the credential of kubeshore login", login.Context)
	d.announce()
	return nil
}

// withHintInText returns err with its hint in its text, because the API sends the
// text alone.
func withHintInText(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(failure.Line(err))
}

// Stop implements controlserver.Daemon.
func (d *Daemon) Stop() {
	if d.shutDown() {
		d.log.Info("kubeshore down: shutting down")
	}
}

// shutDown begins the shutdown, and reports whether it had not begun before.
func (d *Daemon) shutDown() bool {
	first := !d.stopping.Swap(true)
	d.announce()
	d.cancel()
	return first
}
