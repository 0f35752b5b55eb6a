//go:build !windows

package cli

import (
	"context"
	"errors"
	"fmt"
	"log/syslog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kubeshore/kubeshore/internal/peer"
	"github.com/kubeshore/kubeshore/pkg/hosts"
	"github.com/kubeshore/kubeshore/pkg/keeper"
	"github.com/kubeshore/kubeshore/pkg/loopback"
)

// What is told on the command lines of the processes that run as root.
func (p *privileges) define(flags *pflag.FlagSet) {
	flags.StringSliceVar(&p.ranges, "cidr", nil, "where addresses may be")
	flags.StringVar(&p.hostsFile, "hosts-file", "", "the hosts file")
	flags.Var(&p.listen, "listen", "how ports are taken")
	flags.StringVar(&p.owner, "owner", "", "the ID of the user whose keeper it is")
}

func (p privileges) arguments(command string, more ...string) []string {
	args := []string{command, "--hosts-file", p.hostsFile, "--listen", p.listen.String(), "--owner", p.owner}
	for _, text := range p.ranges {
		args = append(args, "--cidr", text)
	}
	return append(args, more...)
}

// rootCommands are the programs of the root half, which kubeshore starts itself.
func rootCommands(streams Streams) []*cobra.Command {
	var p privileges
	var socket string
	keep := &cobra.Command{
		Use: "keeper", Hidden: true, Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if socket == "" {
				return keep(cmd.Context(), p, newLog(streams.Err, formatText, 0))
			}
			if err := callDaemon(socket, p); err != nil {
				fmt.Fprintf(streams.Err, "kubeshore: %v\n", err)
				return exitStatus(exitKeeper)
			}
			return nil
		},
	}
	p.define(keep.Flags())
	keep.Flags().StringVar(&socket, "socket", "", "where the daemon waits")
	guard := &cobra.Command{
		Use: "guard", Hidden: true, Args: noArguments,
		RunE: func(*cobra.Command, []string) error { return watch(p, newLog(streams.Err, formatText, 0)) },
	}
	p.define(guard.Flags())
	return []*cobra.Command{keep, guard}
}

// exitKeeper is the exit status of a keeper that can't reach its daemon, which sudo has none
// like.
const exitKeeper = 70

// runningKeeper is a keeper with what it has.
type runningKeeper struct {
	keeper  *keeper.Keeper
	machine machine
	guard   *keeper.Guard
}

// newKeeper returns a keeper that has taken the hosts file, and its guard.
func newKeeper(ctx context.Context, p privileges, log *logrus.Logger) (*runningKeeper, error) {
	allowed, err := p.prefixes()
	if err != nil {
		return nil, err
	}
	m, guard, err := openGuarded(ctx, p, log)
	if err != nil {
		return nil, err
	}
	return &runningKeeper{machine: m, guard: guard, keeper: &keeper.Keeper{
		Version: version(), Allowed: allowed, Ports: m.ports, Names: m.names, Aliases: m.aliases,
		Refused: func(err error) { log.Warn(err) },
	}}, nil
}

// serve serves a daemon until that has ended, and puts the machine back.
func (k *runningKeeper) serve(ctx context.Context, conn *net.UnixConn) error {
	defer conn.Close() // last of all: the daemon waits for it
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-ctx.Done():
		case <-k.guard.Died():
			cancel(errGuardDied)
		}
	}()
	watching := make(chan error, 1)
	go func() { watching <- k.machine.run(ctx) }()
	err := k.keeper.Serve(ctx, conn)
	cancel(nil)
	return errors.Join(err, <-watching, k.close())
}

func (k *runningKeeper) close() error { return closeGuarded(k.machine, k.guard) }

// openGuarded opens what changes this machine by the rights of this process. Before that
// it has the machine put back if this process is killed: opening it leaves files, too.
func openGuarded(ctx context.Context, p privileges, log *logrus.Logger) (machine, *keeper.Guard, error) {
	guard, err := startGuard(p)
	if err != nil {
		return machine{}, nil, err
	}
	m, err := openOwn(ctx, p, log)
	if err != nil {
		return machine{}, nil, errors.Join(err, guard.End(true))
	}
	return m, guard, nil
}

// startGuard starts the guard of this process.
func startGuard(p privileges) (*keeper.Guard, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(context.Background(), self, p.arguments("guard")...)
	command.Stderr = os.Stderr
	command.Env = rootEnv()
	return keeper.StartGuard(command)
}

// watch is the guard.
func watch(p privileges, log *logrus.Logger) error {
	ignoreSignals()
	pipe := os.NewFile(3, "keeper")
	if info, err := pipe.Stat(); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return errByItself
	}
	return keeper.Watch(pipe, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), cleanTime)
		defer cancel()
		addresses, err := hosts.CleanOwner(ctx, p.hostsFile, p.owner)
		err = errors.Join(err, loopback.CleanAliases(ctx, addresses))
		flushNames(log)(ctx)
		if err != nil {
			toSyslog(log)
			log.Errorf("not everything is taken back: %v", err)
		}
		return err
	})
}

// errByItself is said to who runs the programs of the root half by hand.
var errByItself = errors.New("this is a part of kubeshore up, which starts it itself")

// toSyslog has a log go to the system's: what root does for a daemon that sudo has
// called is read by nobody else. Where there is none, it stays where it is.
func toSyslog(log *logrus.Logger) {
	if writer, err := syslog.New(syslog.LOG_WARNING|syslog.LOG_AUTHPRIV, "kubeshore"); err == nil {
		log.SetOutput(writer)
	}
}

// cleanTime is what the guard may take to put the machine back.
const cleanTime = 10 * time.Second

// ignoreSignals ignores those that people end programs with: a guard ends with its
// keeper, and a keeper with its daemon.
func ignoreSignals() {
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGPIPE)
}

// rootEnv is the environment of what runs as root on its own: nothing of the
// user's.
func rootEnv() []string { return []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"} }

// callDaemon connects a keeper to the daemon that waits at a socket, and leaves it
// alone with it: sudo, which has called this, and the terminal are done with.
func callDaemon(socket string, p privileges) error {
	uid, err := strconv.Atoi(os.Getenv("SUDO_UID"))
	if err != nil || os.Geteuid() != 0 || strconv.Itoa(uid) != p.owner {
		return errByItself
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	defer conn.Close()
	caller, err := peer.UID(conn)
	if err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	if caller != uid {
		return fmt.Errorf("keeper: it is user %d who waits at %s, not user %d", caller, socket, uid)
	}
	file, err := conn.File()
	if err != nil {
		return err
	}
	defer file.Close()
	return startKeeper(file, p)
}

// startKeeper starts a keeper for the daemon at the other end of a connection, in a
// session of its own. It ends with the daemon.
func startKeeper(daemon *os.File, p privileges) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	command := exec.CommandContext(context.Background(), self, p.arguments("keeper")...)
	command.ExtraFiles = []*os.File{daemon}
	command.Env = rootEnv()
	command.Dir = "/"
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return command.Start()
}

// keep is a keeper that was called by sudo: it ends with its daemon.
func keep(ctx context.Context, p privileges, log *logrus.Logger) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	defer stop()
	conn, err := unixConn(os.NewFile(3, "daemon"))
	if err != nil {
		return errByItself
	}
	toSyslog(log)
	k, err := newKeeper(ctx, p, log)
	if err != nil {
		return keeper.Refuse(conn, err)
	}
	err = k.serve(ctx, conn)
	if err != nil {
		log.Error(err)
	}
	return err
}
