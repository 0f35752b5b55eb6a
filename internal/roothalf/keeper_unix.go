//go:build !windows

package roothalf

import (
	"context"
	"errors"
	"fmt"
	"log/syslog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/machine"
	"github.com/kubeshore/kubeshore/internal/namepolicy"
	"github.com/kubeshore/kubeshore/internal/peer"
	"github.com/kubeshore/kubeshore/internal/version"
	"github.com/kubeshore/kubeshore/pkg/hosts"
	"github.com/kubeshore/kubeshore/pkg/keeper"
	"github.com/kubeshore/kubeshore/pkg/loopback"
)

// guardRunTimeout is how long the guard may take to restore the machine.
const guardRunTimeout = 10 * time.Second

// guardFlushTimeout is how long the guard may take to flush the DNS cache for its keeper.
const guardFlushTimeout = 5 * time.Second

// keeperProcess is a keeper with its machine and its guard.
type keeperProcess struct {
	keeper  *keeper.Keeper
	machine machine.Machine
	guard   *keeper.Guard
}

// newKeeper opens the machine for a keeper, and starts its guard.
func newKeeper(ctx context.Context, o machine.Options, log *logrus.Logger) (*keeperProcess, error) {
	m, guard, err := OpenGuarded(ctx, o, log)
	if err != nil {
		return nil, err
	}
	return &keeperProcess{machine: m, guard: guard, keeper: &keeper.Keeper{
		Version: version.String(), Allowed: o.Prefixes, Ports: m.Ports, Holds: m.Holds, Names: m.Names, Aliases: m.Aliases,
		NamePolicy: withOwnNames(o.Names),
		OnRefused:  func(err error) { log.Warn(err) },
	}}, nil
}

// withOwnNames returns a policy that also reserves the names of this machine.
func withOwnNames(policy namepolicy.Policy) namepolicy.Policy {
	if name, err := os.Hostname(); err == nil {
		policy.Reserved = namepolicy.OwnNames(name)
	}
	return policy
}

// OpenGuarded opens the machine with the rights of this process, and a guard.
func OpenGuarded(ctx context.Context, o machine.Options, log logrus.FieldLogger) (machine.Machine, *keeper.Guard, error) {
	guard, err := machine.SelfCommand(context.WithoutCancel(ctx), arguments(GuardCommand, o)...)
	if err != nil {
		return machine.Machine{}, nil, err
	}
	return machine.OpenGuarded(ctx, o, guard, log)
}

// dropPrivileges drops what the keeper no longer needs, except more. The keeper works
// without that too, so an error is only logged.
func (k *keeperProcess) dropPrivileges(log logrus.FieldLogger, more ...int) {
	if k.machine.NamesProcesses {
		more = append(more, namingCapability)
	}
	err := dropPrivileges(slices.Concat(hostsCapabilities, portCapabilities, more)...)
	if err = errors.Join(err, filterSystemCalls(execCalls...)); err != nil {
		log.Warnf("running with more privileges than needed: %s", failure.Line(err))
	}
}

// serve serves a daemon until it disconnects, and restores the machine.
func (k *keeperProcess) serve(ctx context.Context, conn *net.UnixConn) error {
	defer conn.Close() // last: the daemon waits for it
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-ctx.Done():
		case <-k.guard.Died():
			cancel(machine.ErrGuardDied)
		}
	}()
	running := make(chan error, 1)
	go func() { running <- k.machine.Run(ctx) }()
	err := k.keeper.Serve(ctx, conn)
	cancel(nil)
	return errors.Join(err, <-running, k.close())
}

func (k *keeperProcess) close() error { return machine.CloseGuarded(k.machine, k.guard) }

// runKeeper runs the command [KeeperCommand] until its daemon disconnects.
func runKeeper(ctx context.Context, o machine.Options, log *logrus.Logger) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	defer stop()
	conn, err := FileConn(os.NewFile(3, "daemon"))
	if err != nil {
		return errInternalCommand
	}
	logToSyslog(log)
	k, err := newKeeper(ctx, o, log)
	if err != nil {
		return keeper.Refuse(conn, errors.New(failure.Line(err)))
	}
	k.dropPrivileges(log)
	err = k.serve(ctx, conn)
	if err != nil {
		log.Error(failure.Line(err))
	}
	return err
}

// keeperConnect runs the command [KeeperConnectCommand]: it connects a new keeper
// to the daemon that listens at a socket. When it returns, sudo and the terminal
// are no longer needed.
func keeperConnect(socket string, o machine.Options) error {
	uid, err := strconv.Atoi(os.Getenv("SUDO_UID"))
	if err != nil || os.Geteuid() != 0 || strconv.Itoa(uid) != o.Owner {
		return errInternalCommand
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	defer conn.Close()
	listener, err := peer.UID(conn)
	if err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	if listener != uid {
		return fmt.Errorf("keeper: %s belongs to user %d, not to user %d", socket, listener, uid)
	}
	file, err := conn.File()
	if err != nil {
		return err
	}
	defer file.Close()
	return startKeeper(file, o)
}

// startKeeper starts a keeper, in a new session, for the daemon at the other end of
// a connection. It exits when the daemon disconnects.
func startKeeper(daemonConn *os.File, o machine.Options) error {
	command, err := machine.SelfCommand(context.Background(), arguments(KeeperCommand, o)...)
	if err != nil {
		return err
	}
	command.ExtraFiles = []*os.File{daemonConn}
	command.Env = machine.RootEnv()
	command.Dir = "/"
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return command.Start()
}

// runGuard runs the command [GuardCommand]: it waits for its keeper to exit, and
// restores the machine if the keeper hasn't.
func runGuard(o machine.Options, log *logrus.Logger) error {
	// The guard exits with its keeper, and not by a key or a signal to the group.
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGPIPE)
	pipe := os.NewFile(3, "keeper")
	if info, err := pipe.Stat(); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return errInternalCommand
	}
	err := dropPrivileges(hostsCapabilities...)
	if err = errors.Join(err, filterSystemCalls()); err != nil {
		log.Warnf("guard: running with more privileges than needed: %s", failure.Line(err))
	}
	return keeper.Watch(pipe, func() error { return restore(o, log) }, func() {
		ctx, cancel := context.WithTimeout(context.Background(), guardFlushTimeout)
		defer cancel()
		machine.DNSCacheFlusher(log)(ctx)
	})
}

// restore restores the machine after the keeper's death.
func restore(o machine.Options, log *logrus.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), guardRunTimeout)
	defer cancel()
	var addresses []netip.Addr
	err := machine.CheckHostsFile(o.HostsFile)
	if err == nil {
		addresses, err = hosts.CleanOwner(ctx, o.HostsFile, o.Owner)
	}
	_, claimsErr := machine.CleanClaims(ctx)
	err = errors.Join(err, loopback.CleanAliases(ctx, addresses), claimsErr)
	machine.DNSCacheFlusher(log)(ctx)
	if err != nil {
		logToSyslog(log)
		log.Errorf("clean up: %s", failure.Line(err))
	}
	return err
}

// logToSyslog sends a log to the system's, because nobody reads the stderr of a
// process that sudo has left behind. Without a syslog it stays where it is.
func logToSyslog(log *logrus.Logger) {
	if writer, err := syslog.New(syslog.LOG_WARNING|syslog.LOG_AUTHPRIV, "kubeshore"); err == nil {
		log.SetOutput(writer)
	}
}

// useRootEnv gives this process the environment of a keeper, once that of its
// daemon was computed.
func useRootEnv() error {
	os.Clearenv()
	return os.Setenv("PATH", machine.RootPath)
}
