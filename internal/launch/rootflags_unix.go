//go:build !windows

package launch

import (
	"github.com/spf13/pflag"

	"github.com/kubeshore/kubeshore/internal/machine"
	"github.com/kubeshore/kubeshore/pkg/listen"
)

// The hidden commands of the processes that run as root.
const (
	// KeeperCommand runs a keeper connected to its daemon on descriptor 3.
	KeeperCommand = "keeper"
	// KeeperConnectCommand connects to a daemon's socket, starts a keeper for it,
	// and exits. sudo runs it.
	KeeperConnectCommand = "keeper-connect"
	// GuardCommand restores the machine when the keeper at the other end of
	// descriptor 3 dies.
	GuardCommand = "guard"
)

// PrivilegedFlags are the flags of these commands. Root's processes know nothing
// else of the user's configuration.
type PrivilegedFlags struct {
	prefixes  []string
	hostsFile string
	listen    listen.Mode
	owner     string
}

// Define defines the flags.
func (f *PrivilegedFlags) Define(flags *pflag.FlagSet) {
	flags.StringSliceVar(&f.prefixes, "cidr", nil, "loopback ranges for service addresses")
	flags.StringVar(&f.hostsFile, "hosts-file", "", "path of the hosts file")
	flags.Var(&f.listen, "listen", "how to listen")
	flags.StringVar(&f.owner, "owner", "", "ID of the user who owns the names")
}

// Options returns the options that the flags set.
func (f *PrivilegedFlags) Options() (machine.Options, error) {
	prefixes, err := machine.ParsePrefixes(f.prefixes)
	return machine.Options{Prefixes: prefixes, HostsFile: f.hostsFile, Listen: f.listen, Owner: f.owner}, err
}

// rootArguments returns the arguments that pass o to a command.
func rootArguments(command string, o machine.Options, more ...string) []string {
	args := []string{command, "--hosts-file", o.HostsFile, "--listen", o.Listen.String(), "--owner", o.Owner}
	for _, prefix := range o.Prefixes {
		args = append(args, "--cidr", prefix.String())
	}
	return append(args, more...)
}
