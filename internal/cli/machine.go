package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/hosts"
	"github.com/kubeshore/kubeshore/pkg/listen"
	"github.com/kubeshore/kubeshore/pkg/loopback"
)

// machine is what a daemon changes this machine by: its own rights, or a keeper.
type machine struct {
	ports   listen.Taker
	names   names // nil: there are to be none
	aliases fwd.Aliases
	// run does what must be done meanwhile, until ctx ends. It may be nil.
	run func(ctx context.Context) error
	// lacks says, once things go well, what there isn't; empty if all is there.
	lacks string
	// close lets go of what it has; the machine has been put back by then.
	close func() error
}

// names are those that a machine has for addresses.
type names interface {
	fwd.Names
	// Writes returns how often the hosts file was written.
	Writes() uint64
}

// privileges is what a keeper is told on its own command line.
type privileges struct {
	ranges    []string // where addresses may be
	hostsFile string
	listen    listen.Mode
	owner     string // the ID of the user whose they are
}

// prefixes returns where addresses may be.
func (p privileges) prefixes() ([]netip.Prefix, error) {
	prefixes := make([]netip.Prefix, 0, len(p.ranges))
	for _, text := range p.ranges {
		prefix, err := netip.ParsePrefix(text)
		if err == nil {
			err = loopback.CheckPrefix(prefix)
		}
		if err != nil {
			return nil, fmt.Errorf("--cidr: %w", err)
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes, nil
}

// openOwn opens what changes this machine by the rights of this process, and
// takes away what a killed run of the same user has left.
func openOwn(ctx context.Context, p privileges, log logrus.FieldLogger) (machine, error) {
	file, err := openHosts(ctx, p.hostsFile, p.owner)
	if err != nil {
		return machine{}, err
	}
	file.Flush = flushNames(log)
	if err := putRight(ctx, file, p.hostsFile, log); err != nil {
		return machine{}, errors.Join(err, file.Close())
	}
	ports, err := listen.Open(ctx, p.listen)
	if err != nil {
		return machine{}, errors.Join(err, file.Close())
	}
	return machine{
		ports: ports, names: file, aliases: &loopback.Aliases{},
		run:   watchHosts(file, log),
		close: func() error { return errors.Join(ports.Close(), file.Close()) },
	}, nil
}

// putRight takes away what a killed run has left in a hosts file, and says what may be
// its own and stays.
func putRight(ctx context.Context, file *hosts.File, path string, log logrus.FieldLogger) error {
	if _, err := file.Set(ctx, nil); err != nil {
		return err
	}
	strays, err := file.Strays()
	if n := len(strays); n > 0 {
		log.Warnf("%s: what looks like kubeshore's, but may be yours, is left alone: %d, of them %s", path, n, strings.Join(strays[:min(n, 3)], ", "))
	}
	return err
}

// watchHosts returns what watches a hosts file, and empties the cache of names. That it
// can't be watched, as the system has few watches, is no reason to end.
func watchHosts(file *hosts.File, log logrus.FieldLogger) func(context.Context) error {
	return func(ctx context.Context) error {
		var emptying sync.WaitGroup
		defer emptying.Wait()
		emptying.Go(func() { file.EmptyCaches(ctx) })
		if err := file.Run(ctx); err != nil {
			log.Warnf("%v; what other programs do to it is seen with the next change of a service", err)
		}
		return nil
	}
}

// openRootless opens what can be changed without root, and says what can't.
func openRootless(ctx context.Context, p privileges, log logrus.FieldLogger) (machine, error) {
	ports, err := listen.Open(ctx, p.listen)
	if err != nil {
		return machine{}, err
	}
	m := machine{ports: ports, aliases: &loopback.Aliases{}, close: ports.Close}
	var missing []string
	_, each := ports.(*listen.Each)
	if least := listen.LeastPort(); each && least > 1 && os.Geteuid() != 0 {
		missing = append(missing, fmt.Sprintf("ports below %d are not taken", least))
	}
	file, err := hosts.Open(p.hostsFile, p.owner)
	switch {
	case errors.Is(err, fs.ErrPermission):
		missing = append(missing, fmt.Sprintf("no names are written, as %s can't be: services have their addresses only", p.hostsFile))
	case err != nil:
		return machine{}, errors.Join(err, ports.Close())
	default:
		if err := putRight(ctx, file, p.hostsFile, log); err != nil {
			return machine{}, errors.Join(err, file.Close(), ports.Close())
		}
		m.names, m.run = file, watchHosts(file, log)
		m.close = func() error { return errors.Join(ports.Close(), file.Close()) }
	}
	if len(missing) > 0 {
		m.lacks = "without root: " + strings.Join(missing, "; ")
	}
	return m, nil
}

// endTime is how long the last run may take to let go of the hosts file: its keeper ends
// after its daemon.
const endTime = time.Second

// openHosts takes the hosts file, and says what to do where that can't be.
func openHosts(ctx context.Context, path, owner string) (*hosts.File, error) {
	file, err := hosts.Open(path, owner)
	for begin := time.Now(); errors.Is(err, hosts.ErrInUse) && time.Since(begin) < endTime && ctx.Err() == nil; {
		<-time.After(20 * time.Millisecond)
		file, err = hosts.Open(path, owner)
	}
	switch {
	case err == nil || errors.Is(err, hosts.ErrInUse):
		return file, err
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		return nil, fmt.Errorf("%w; kubeshore needs root: sudo kubeshore up", err)
	default:
		return nil, fmt.Errorf("%w; it must be a file that can be written", err)
	}
}
