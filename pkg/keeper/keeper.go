//go:build linux || darwin

// Package keeper splits kubeshore into two processes. The keeper runs as root and
// does the three things that need it: it opens ports, writes names to the hosts
// file, and adds address aliases. It knows nothing of clusters, reads none of the
// user's files, and opens no connections. The daemon runs as the user, does
// everything else, and has a [Client]. When the daemon exits, for whatever reason,
// the keeper restores the machine. When the keeper dies, its [Guard] does.
package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/kubeshore/kubeshore/internal/cleanup"
	"github.com/kubeshore/kubeshore/internal/namepolicy"
	"github.com/kubeshore/kubeshore/internal/netaddr"
	"github.com/kubeshore/kubeshore/internal/printable"
	"github.com/kubeshore/kubeshore/pkg/listen"
)

// Names is the part of hosts.File that the keeper uses.
type Names interface {
	Set(ctx context.Context, table map[netip.Addr][]string) (refused map[string]error, err error)
	Changed() <-chan struct{}
	Writes() uint64
}

// Aliases is the part of loopback.Aliases that the keeper uses.
type Aliases interface {
	Set(ctx context.Context, addrs []netip.Addr) error
}

// Keeper performs privileged operations for one daemon. All exported fields must
// be set before Serve is called, and must not change after that.
type Keeper struct {
	// Version is the version of kubeshore. The daemon's must be the same.
	Version string
	// Allowed lists the ranges that addresses must be in.
	Allowed []netip.Prefix
	// NamePolicy decides which names the daemon may set.
	NamePolicy namepolicy.Policy
	Ports      listen.Taker
	Names      Names
	Aliases    Aliases
	// Holds reports whether an address is one that Ports has claimed for this keeper.
	// Names map to no others, except to 127.0.0.1. If it is nil, all may.
	Holds func(netip.Addr) bool
	// OnRefused is called with a one-line error for a request that is malformed, or
	// refused completely or in part.
	OnRefused func(error)

	writeMu          sync.Mutex // held while a response is written
	lastRefusedNames string     // the last message about names that OnRefused got
}

// Serve handles the requests of the daemon at the other end of conn until the
// daemon closes the connection or ctx ends. Then it restores the machine. The
// caller closes conn. Serve returns nil if the daemon closed the connection and
// the machine is restored. It must be called only once.
func (k *Keeper) Serve(ctx context.Context, conn *net.UnixConn) error {
	err := k.send(conn, response{Hello: &hello{
		Version: k.Version, How: k.Ports.How(), FullNames: k.NamePolicy.Full, PublicNames: k.NamePolicy.Patterns,
	}})
	if err == nil {
		err = k.handleRequests(ctx, conn)
	}
	if isClosed(err) {
		err = nil
	}
	return errors.Join(err, k.restore(ctx))
}

// isClosed reports whether an error means that the other end of the connection is
// closed. It is a reset if that end had unread data.
func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// Refuse tells the daemon why the keeper can't start, and closes conn.
func Refuse(conn *net.UnixConn, reason error) error {
	return errors.Join(writeMessage(conn, response{Hello: &hello{}, Error: reason.Error()}), conn.Close())
}

// handleRequests handles requests until the connection or ctx ends, or a request
// is malformed.
func (k *Keeper) handleRequests(ctx context.Context, conn *net.UnixConn) error {
	ctx, cancel := context.WithCancelCause(ctx)
	// The end of ctx interrupts reads, and writes to a daemon that doesn't read.
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel(nil)
	running.Go(func() { k.notifyChanges(ctx, conn) })
	// The loss of the connection interrupts the current request.
	requestCtx, interrupt := context.WithCancel(ctx)
	messages := make(chan incoming)
	running.Go(func() { readMessages(ctx, conn, messages, interrupt) })

	for {
		var in incoming
		select {
		case <-ctx.Done():
		case in = <-messages:
		}
		switch {
		case context.Cause(ctx) != nil:
			return fmt.Errorf("keeper stopped: %w", context.Cause(ctx))
		case isClosed(in.err): // by the daemon, or because it died
			return in.err
		case in.err != nil:
			k.OnRefused(in.err)
			return in.err
		}
		r, err := decode(in.message)
		if err != nil {
			k.OnRefused(err)
			return err
		}
		if err := k.handle(requestCtx, conn, r); err != nil {
			return err
		}
	}
}

// incoming is a message from the daemon, or the error that ended reading.
type incoming struct {
	message []byte
	err     error
}

// readMessages reads messages until an error. It calls interrupt as soon as that
// occurs, even if the previous message is still being handled.
func readMessages(ctx context.Context, conn *net.UnixConn, messages chan<- incoming, interrupt context.CancelFunc) {
	defer interrupt()
	for {
		message, err := readMessage(conn)
		if err != nil {
			interrupt()
		}
		select {
		case messages <- incoming{message, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// notifyChanges tells the daemon each time that the names may have to be set again.
func (k *Keeper) notifyChanges(ctx context.Context, conn *net.UnixConn) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.Names.Changed():
			if err := k.send(conn, response{Changed: true}); err != nil {
				return // reading fails as well, and handleRequests returns that error
			}
		}
	}
}

// handle performs a request, or refuses it. Its error means that the response
// couldn't be sent.
func (k *Keeper) handle(ctx context.Context, conn *net.UnixConn, r request) error {
	if err := k.check(r); err != nil {
		k.OnRefused(err)
		return k.send(conn, response{Sequence: r.Sequence, Error: err.Error()})
	}
	resp := response{Sequence: r.Sequence}
	var files []*os.File
	var err error
	switch {
	case r.Ports != nil:
		files, err = k.takePorts(ctx, r, &resp)
	case r.Names != nil:
		var refused map[string]error
		permitted, unpermitted := k.permitted(*r.Names)
		if refused, err = k.Names.Set(ctx, permitted); err == nil {
			refused = merge(refused, unpermitted)
		}
		resp.Refused, resp.Writes = errorTexts(refused, strings.Compare), k.Names.Writes()
		k.reportRefusedNames(refused)
	default:
		err = k.Aliases.Set(ctx, *r.Addrs)
	}
	if err != nil {
		resp.Error = err.Error()
	}
	defer closeAll(files) // only the daemon keeps them
	return k.send(conn, resp, files...)
}

// permitted returns the names that the policy permits for addresses of this keeper, and
// the others, each with the reason. Names on another keeper's address would keep that
// one from using it.
func (k *Keeper) permitted(table map[netip.Addr][]string) (permitted map[netip.Addr][]string, refused map[string]error) {
	permitted, refused = make(map[netip.Addr][]string, len(table)), make(map[string]error)
	for addr, names := range table {
		held := addr == netaddr.Localhost || k.Holds == nil || k.Holds(addr)
		for _, name := range names {
			if !held {
				refused[name] = fmt.Errorf("address %v has no ports of this keeper", addr)
				continue
			}
			if refusal := k.NamePolicy.Check(name); refusal != nil {
				refused[name] = refusal
				continue
			}
			permitted[addr] = append(permitted[addr], name)
		}
	}
	return permitted, refused
}

// merge returns the errors of both maps.
func merge(a, b map[string]error) map[string]error {
	all := make(map[string]error, len(a)+len(b))
	maps.Copy(all, a)
	maps.Copy(all, b)
	return all
}

// maxReportedName limits, in bytes, how much of a refused name's error is
// reported: a name may be as long as a message.
const maxReportedName = 300

// reportRefusedNames calls OnRefused if names were refused, unless the previous
// request had the same result. It leaves out names that another line of the hosts
// file maps: that is not an error in the request, and the daemon reports it.
func (k *Keeper) reportRefusedNames(refused map[string]error) {
	var invalid []string
	for name, err := range refused {
		if taken, ok := errors.AsType[interface {
			error
			Taken() bool
		}](err); !ok || !taken.Taken() {
			invalid = append(invalid, name)
		}
	}
	text := ""
	if len(invalid) > 0 {
		first := slices.Min(invalid)
		text = fmt.Sprintf("refused: %d names, e.g. %.*q: %.*s", len(invalid), maxReportedName, first, maxReportedName, refused[first])
	}
	if text != k.lastRefusedNames && text != "" {
		k.OnRefused(errors.New(text))
	}
	k.lastRefusedNames = text
}

// takePorts opens ports and returns the descriptors of the new sockets.
func (k *Keeper) takePorts(ctx context.Context, r request, resp *response) (files []*os.File, err error) {
	sockets, portErrors, err := k.Ports.Take(ctx, *r.Ports, r.Existing)
	if portErrors == nil {
		portErrors = make(map[netip.AddrPort]error)
	}
	for _, socket := range sockets {
		file, fileErr := socket.File()
		if err = errors.Join(err, socket.Close()); fileErr != nil {
			err = errors.Join(err, addSocketError(portErrors, socket.For, fileErr))
			continue
		}
		files = append(files, file)
		resp.Sockets = append(resp.Sockets, socket.For)
	}
	resp.PortErrors = errorTexts(portErrors, netip.AddrPort.Compare)
	return files, err
}

// addSocketError records that a socket was lost on its way to the daemon, which
// will request it again: in portErrors if the socket is for one port. If it is for
// all ports, addSocketError returns the error.
func addSocketError(portErrors map[netip.AddrPort]error, at netip.AddrPort, err error) error {
	if !at.IsValid() {
		return err
	}
	portErrors[at] = err
	return nil
}

// send sends a response, followed by descriptors.
func (k *Keeper) send(conn *net.UnixConn, resp response, files ...*os.File) error {
	k.writeMu.Lock()
	defer k.writeMu.Unlock()
	err := writeMessage(conn, resp)
	if tooLong, ok := errors.AsType[tooLongError](err); ok && len(files) == 0 { // nothing was written
		return writeMessage(conn, response{Sequence: resp.Sequence, Error: "response left out: " + tooLong.Error()})
	}
	if err != nil {
		return err
	}
	return sendFiles(conn, files)
}

// check returns an error if a request must be refused. It doesn't check names,
// because Names refuses them one by one.
func (k *Keeper) check(r request) error {
	switch {
	case r.Ports != nil:
		return k.checkPorts(*r.Ports, r.Existing)
	case r.Names != nil:
		count := 0
		for addr, names := range *r.Names {
			if err := k.checkAddr(addr); err != nil && addr != netaddr.Localhost {
				return err
			}
			count += len(names)
		}
		return checkCount("names", count, maxNames)
	}
	if err := checkCount("addresses", len(*r.Addrs), maxAddrs); err != nil {
		return err
	}
	for _, addr := range *r.Addrs {
		if err := k.checkAddr(addr); err != nil {
			return err
		}
	}
	return nil
}

func (k *Keeper) checkPorts(ports, existing []netip.AddrPort) error {
	if err := checkCount("ports", max(len(ports), len(existing)), maxPorts); err != nil {
		return err
	}
	for _, at := range ports {
		if err := k.checkAddr(at.Addr()); err != nil {
			return err
		}
		if at.Port() == 0 {
			return fmt.Errorf("refused: port 0 on %v", at.Addr())
		}
	}
	return nil
}

func checkCount(kind string, count, limit int) error {
	if count > limit {
		return fmt.Errorf("refused: %d %s exceed the limit of %d", count, kind, limit)
	}
	return nil
}

func (k *Keeper) checkAddr(addr netip.Addr) error {
	if !addr.Is4() || !slices.ContainsFunc(k.Allowed, func(p netip.Prefix) bool { return p.Contains(addr) }) {
		return fmt.Errorf("refused: address %v is not in %v (--cidr)", addr, k.Allowed)
	}
	return nil
}

// restore undoes all changes, in the order in which a client uses them: names,
// ports, addresses.
func (k *Keeper) restore(ctx context.Context) error {
	return errors.Join(
		cleanup.Run(ctx, func(ctx context.Context) error {
			_, err := k.Names.Set(ctx, nil)
			return err
		}),
		k.Ports.Close(),
		cleanup.Run(ctx, func(ctx context.Context) error { return k.Aliases.Set(ctx, nil) }),
	)
}

// errorTexts returns the messages of errors, to be sent in a response. Only the
// first maxErrorTexts have a text, because otherwise the errors for all names of a
// request could be longer than a message.
func errorTexts[K comparable](errs map[K]error, compare func(a, b K) int) map[K]string {
	if len(errs) == 0 {
		return nil
	}
	texts := make(map[K]string, len(errs))
	for i, key := range slices.SortedFunc(maps.Keys(errs), compare) {
		texts[key] = ""
		if i < maxErrorTexts {
			texts[key] = printable.Line(errs[key].Error(), maxErrorText)
		}
	}
	return texts
}

// textErrors is the reverse of errorTexts. Errors without a text get one.
func textErrors[K comparable](texts map[K]string) map[K]error {
	errs := make(map[K]error, len(texts))
	for key, text := range texts {
		if text == "" {
			text = fmt.Sprintf("refused by the keeper, like %d others; see their reasons", len(texts)-1)
		}
		errs[key] = errors.New(text)
	}
	return errs
}
