//go:build !windows

package roothalf

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"
	"github.com/txn2/txeh"

	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/machine"
	"github.com/kubeshore/kubeshore/internal/namepolicy"
)

// The commands.
const (
	// KeeperCommand runs a keeper connected to its daemon on descriptor 3.
	KeeperCommand = "keeper"
	// KeeperConnectCommand connects to a daemon's socket, starts a keeper for it,
	// and exits. sudo runs it.
	KeeperConnectCommand = "keeper-connect"
	// GuardCommand restores the machine when the keeper at the other end of
	// descriptor 3 dies.
	GuardCommand = "guard"
	// RunAsUserCommand starts a daemon as a user and is its keeper. See [Run].
	RunAsUserCommand = "run-as-user"
)

// Commands lists the names of all commands.
func Commands() []string {
	return []string{KeeperCommand, KeeperConnectCommand, GuardCommand, RunAsUserCommand, machine.FlushCommand}
}

// KeeperConnectFailed is the exit status of keeper-connect when it fails. sudo
// never exits with it.
const KeeperConnectFailed = 70

// errInternalCommand is the error of these commands when a person runs them.
var errInternalCommand = errors.New("internal command, started by kubeshore up")

// Main runs a command line, without the program's name. Its error is one of package
// failure, and has not been reported unless it is an exit status.
func Main(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return failure.Usage(errors.New("a part of kubeshore, started by kubeshore up"))
	}
	var o commandOptions
	rest, err := o.parse(args)
	if err != nil {
		return failure.Usage(fmt.Errorf("%s: %w", args[0], err))
	}
	nameProcess()
	switch name := args[0]; name {
	case KeeperCommand:
		return runKeeper(ctx, o.machine, o.newLog())
	case KeeperConnectCommand:
		err := o.checkCanonical(args)
		if err == nil {
			err = keeperConnect(o.socket, o.machine)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err) // without a prefix, because the daemon quotes it
			return failure.ExitStatus(KeeperConnectFailed)
		}
		return nil
	case GuardCommand:
		return runGuard(o.machine, o.newLog())
	case RunAsUserCommand:
		return o.runAsUser(ctx, rest)
	case machine.FlushCommand:
		return txeh.FlushDNSCache()
	default:
		return failure.Usage(fmt.Errorf("unknown command %q", name))
	}
}

// nameProcess sets the process's name on Linux, where one that was started by
// /proc/self/exe would be named exe. Where that isn't possible, it stays so.
func nameProcess() {
	if path, err := os.Executable(); err == nil && runtime.GOOS == "linux" {
		_ = os.WriteFile("/proc/self/comm", []byte(filepath.Base(path)), 0)
	}
}

// commandOptions are the flags of the commands. Root's processes know nothing else of
// the user's configuration.
type commandOptions struct {
	machine  machine.Options
	prefixes []string
	socket   string // of keeper-connect

	isolated, detach bool   // of run-as-user, as the following
	program          string // the daemon's
	json             bool   // format of the log
	verbosity        int
}

func (o *commandOptions) define(flags *pflag.FlagSet) {
	flags.StringSliceVar(&o.prefixes, "cidr", nil, "loopback ranges for service addresses")
	flags.StringVar(&o.machine.HostsFile, "hosts-file", "", "path of the hosts file")
	flags.Var(&o.machine.Listen, "listen", "how to listen")
	flags.StringVar(&o.machine.Owner, "owner", "", "ID of the user who owns the names")
	flags.BoolVar(&o.machine.Names.Full, "full-names", false, "refuse short names")
	flags.StringArrayVar(&o.machine.Names.Patterns, "public-name", nil, "pattern of public names to accept")
	flags.StringVar(&o.socket, "socket", "", "path of the daemon's socket")
	flags.BoolVar(&o.isolated, "isolated", false, "give the daemon nothing of root's terminal and environment")
	flags.BoolVar(&o.detach, "detach", false, "let the keeper outlive this process")
	flags.StringVar(&o.program, "program", "", "path of kubeshore")
	flags.BoolVar(&o.json, "json", false, "log in JSON")
	flags.IntVar(&o.verbosity, "verbosity", 0, "of the log")
}

// parse parses a command with its flags, and returns the arguments after the flags.
func (o *commandOptions) parse(args []string) (rest []string, err error) {
	flags := pflag.NewFlagSet(args[0], pflag.ContinueOnError)
	flags.Usage = func() {}
	o.define(flags)
	if err := flags.Parse(args[1:]); err != nil {
		return nil, err
	}
	for _, pattern := range o.machine.Names.Patterns {
		if err := namepolicy.CheckPublicPattern(pattern); err != nil {
			return nil, fmt.Errorf("--public-name: %w", err)
		}
	}
	o.machine.Prefixes, err = machine.ParsePrefixes(o.prefixes)
	return flags.Args(), err
}

// arguments returns the arguments that pass o to a command.
func arguments(command string, o machine.Options, more ...string) []string {
	args := []string{command, "--hosts-file", o.HostsFile, "--listen", o.Listen.String(), "--owner", o.Owner}
	for _, prefix := range o.Prefixes {
		args = append(args, "--cidr", prefix.String())
	}
	if o.Names.Full {
		args = append(args, "--full-names")
	}
	for _, pattern := range o.Names.Patterns {
		args = append(args, "--public-name", pattern)
	}
	return append(args, more...)
}

// ConnectArguments returns the arguments of keeper-connect, which sudo runs. [SudoersLine]
// must allow them.
func ConnectArguments(o machine.Options, socket string) []string {
	return arguments(KeeperConnectCommand, o, "--socket", socket)
}

// newLog returns the log of a command.
func (o *commandOptions) newLog() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(os.Stderr)
	log.SetLevel(min(logrus.InfoLevel+logrus.Level(o.verbosity), logrus.TraceLevel))
	info, err := os.Stderr.Stat()
	switch isTerminal := err == nil && info.Mode()&os.ModeCharDevice != 0; {
	case o.json:
		log.SetFormatter(&logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano})
	case isTerminal:
		log.SetFormatter(plainFormatter{})
	default:
		log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, TimestampFormat: time.TimeOnly, DisableColors: true})
	}
	return log
}

// plainFormatter formats an entry as the daemon's log view does.
type plainFormatter struct{}

// Format implements logrus.Formatter.
func (plainFormatter) Format(entry *logrus.Entry) ([]byte, error) {
	return []byte(entry.Time.Format(time.TimeOnly) + " " + entry.Message + "\n"), nil
}
