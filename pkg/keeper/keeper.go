//go:build linux || darwin

// Package keeper divides kubeshore in two. The keeper runs as root and does the
// three things that need it: it takes ports, writes names into the hosts file,
// and makes addresses answer. It knows nothing of clusters, reads no file of the
// user's and opens no connection. The daemon runs as the user and does all else;
// it has a [Client]. When the daemon is gone, however it went, the keeper puts the
// machine back; when the keeper is gone, its [Guard] does.
package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/kubeshore/kubeshore/pkg/listen"
)

// cleanupTime is what each part is given to put the machine back.
const cleanupTime = 10 * time.Second

// Names is what the keeper needs of the hosts file (hosts.File).
type Names interface {
	Set(ctx context.Context, table map[netip.Addr][]string) (refused map[string]error, err error)
	Changed() <-chan struct{}
	Writes() uint64
}

// Aliases is what the keeper needs of the machine's addresses (loopback.Aliases).
type Aliases interface {
	Set(ctx context.Context, addrs []netip.Addr) error
}

// Keeper does for one daemon what needs root. All fields must be set before
// Serve, and not changed after.
type Keeper struct {
	// Version is the program's.
	Version string
	// Allowed are the ranges that addresses must be in.
	Allowed []netip.Prefix
	Ports   listen.Taker
	Names   Names
	Aliases Aliases
	// Refused is told what was asked for and not done, in a line.
	Refused func(error)

	writing sync.Mutex // for one answer at a time
	noted   string     // what Refused was last told of names
}

// Serve does what the daemon at the other end of conn asks for, until that end
// is closed or ctx ends; then it puts the machine back. The caller closes conn.
// It must be called once. Its error is nil if the other end was closed and the
// machine is as it was.
func (k *Keeper) Serve(ctx context.Context, conn *net.UnixConn) error {
	err := k.answer(conn, answer{Hello: &hello{Version: k.Version, How: k.Ports.How()}})
	if err == nil {
		err = k.serve(ctx, conn)
	}
	if isEnd(err) {
		err = nil
	}
	return errors.Join(err, k.restore(ctx))
}

// isEnd tells whether an error of a connection is that its other end is closed. It is a
// reset if that has left something unread.
func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// Refuse tells the daemon why there is no keeper for it.
func Refuse(conn *net.UnixConn, why error) error {
	return errors.Join(writeMessage(conn, answer{Hello: &hello{}, Error: why.Error()}), conn.Close())
}

// serve answers until there is nobody to answer.
func (k *Keeper) serve(ctx context.Context, conn *net.UnixConn) error {
	ctx, cancel := context.WithCancelCause(ctx)
	// With ctx ends what is being read, and what is written to a daemon that doesn't
	// read.
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel(nil)
	running.Go(func() { k.tell(ctx, conn) })
	// What is being done for a daemon that has gone is given up.
	handling, giveUp := context.WithCancel(ctx)
	messages := make(chan incoming)
	running.Go(func() { receive(ctx, conn, messages, giveUp) })

	for {
		var in incoming
		select {
		case <-ctx.Done():
		case in = <-messages:
		}
		switch {
		case context.Cause(ctx) != nil:
			return fmt.Errorf("told to end: %w", context.Cause(ctx))
		case isEnd(in.err): // the daemon has closed its end, or is dead
			return in.err
		case in.err != nil:
			k.Refused(in.err)
			return in.err
		}
		r, err := decode(in.message)
		if err != nil {
			k.Refused(err)
			return err
		}
		if err := k.handle(handling, conn, r); err != nil {
			return err
		}
	}
}

// incoming is a message of the daemon's, or why there are no more.
type incoming struct {
	message []byte
	err     error
}

// receive reads messages until there are no more, and says so by ended at once.
func receive(ctx context.Context, conn *net.UnixConn, messages chan<- incoming, ended context.CancelFunc) {
	defer ended()
	for {
		message, err := readMessage(conn)
		if err != nil {
			ended()
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

// tell says that the names may have to be set again, as often as that is so.
func (k *Keeper) tell(ctx context.Context, conn *net.UnixConn) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.Names.Changed():
			if err := k.answer(conn, answer{Changed: true}); err != nil {
				return // serve finds out too
			}
		}
	}
}

// handle does what is asked for, unless it may not be. Its error means that the
// daemon can't be answered.
func (k *Keeper) handle(ctx context.Context, conn *net.UnixConn, r request) error {
	if err := k.check(r); err != nil {
		k.Refused(err)
		return k.answer(conn, answer{Sequence: r.Sequence, Error: err.Error()})
	}
	a := answer{Sequence: r.Sequence}
	var sockets []*os.File
	var err error
	switch {
	case r.Ports != nil:
		sockets, err = k.take(ctx, r, &a)
	case r.Names != nil:
		var refused map[string]error
		refused, err = k.Names.Set(ctx, *r.Names)
		a.Refused, a.Writes = texts(refused), k.Names.Writes()
		k.noteNames(refused)
	default:
		err = k.Aliases.Set(ctx, *r.Addrs)
	}
	if err != nil {
		a.Error = err.Error()
	}
	defer closeAll(sockets) // they are the daemon's alone
	return k.answer(conn, a, sockets...)
}

// maxNoted bounds what is told of names that were refused, in bytes: they may be as long
// as a message.
const maxNoted = 300

// noteNames tells of names that were refused, once for those of the same request again.
// That another line of the hosts file has a name is nobody's fault: the daemon says it.
func (k *Keeper) noteNames(refused map[string]error) {
	var wrong []string
	for name, err := range refused {
		if taken, ok := errors.AsType[interface {
			error
			Taken() bool
		}](err); !ok || !taken.Taken() {
			wrong = append(wrong, name)
		}
	}
	text := ""
	if len(wrong) > 0 {
		first := slices.Min(wrong)
		text = fmt.Sprintf("refused: %d names, of them %.*s", len(wrong), maxNoted, refused[first])
	}
	if text != k.noted && text != "" {
		k.Refused(errors.New(text))
	}
	k.noted = text
}

// take takes ports and returns descriptors of the new sockets.
func (k *Keeper) take(ctx context.Context, r request, a *answer) (files []*os.File, err error) {
	taken, faults, err := k.Ports.Take(ctx, *r.Ports, r.Have)
	if faults == nil {
		faults = make(map[netip.AddrPort]error)
	}
	for _, socket := range taken {
		file, e := socket.File()
		if err = errors.Join(err, socket.Close()); e != nil {
			err = errors.Join(err, lost(faults, socket.For, e))
			continue
		}
		files = append(files, file)
		a.Sockets = append(a.Sockets, socket.For)
	}
	a.Faults = texts(faults)
	return files, err
}

// lost notes that a socket is lost, which the daemon will ask for again: a fault of its
// port, or, if it is for all ports, of them all, which it returns.
func lost(faults map[netip.AddrPort]error, of netip.AddrPort, why error) error {
	if !of.IsValid() {
		return why
	}
	faults[of] = fmt.Errorf("port %d of %v: %w", of.Port(), of.Addr(), why)
	return nil
}

// answer sends an answer, and descriptors behind it.
func (k *Keeper) answer(conn *net.UnixConn, a answer, files ...*os.File) error {
	k.writing.Lock()
	defer k.writing.Unlock()
	if err := writeMessage(conn, a); err != nil {
		return err
	}
	return sendFiles(conn, files)
}

// check finds what a request may not ask for. Names are looked at by the hosts
// file, one by one.
func (k *Keeper) check(r request) error {
	switch {
	case r.Ports != nil:
		if n := max(len(*r.Ports), len(r.Have)); n > maxPorts {
			return fmt.Errorf("refused: %d ports, more than %d", n, maxPorts)
		}
		for _, at := range *r.Ports {
			if err := k.checkAddr(at.Addr()); err != nil {
				return err
			}
			if at.Port() == 0 {
				return fmt.Errorf("refused: port 0 of %v", at.Addr())
			}
		}
	case r.Names != nil:
		count := 0
		for addr, names := range *r.Names {
			if err := k.checkAddr(addr); err != nil && addr != localhost {
				return err
			}
			count += len(names)
		}
		if count > maxNames {
			return fmt.Errorf("refused: %d names, more than %d", count, maxNames)
		}
	default:
		if len(*r.Addrs) > maxAddrs {
			return fmt.Errorf("refused: %d addresses, more than %d", len(*r.Addrs), maxAddrs)
		}
		for _, addr := range *r.Addrs {
			if err := k.checkAddr(addr); err != nil {
				return err
			}
		}
	}
	return nil
}

// localhost is where names of services that run on this machine point.
var localhost = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func (k *Keeper) checkAddr(addr netip.Addr) error {
	if !addr.Is4() || !slices.ContainsFunc(k.Allowed, func(p netip.Prefix) bool { return p.Contains(addr) }) {
		return fmt.Errorf("refused: address %v is not in %v, which kubeshore was started with (--cidr)", addr, k.Allowed)
	}
	return nil
}

// restore puts the machine back, in the order in which a program meets it.
func (k *Keeper) restore(ctx context.Context) error {
	within := func(part func(context.Context) error) error {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
		defer cancel()
		return part(limited)
	}
	return errors.Join(
		within(func(ctx context.Context) error {
			_, err := k.Names.Set(ctx, nil)
			return err
		}),
		k.Ports.Close(),
		within(func(ctx context.Context) error { return k.Aliases.Set(ctx, nil) }),
	)
}

// texts returns errors as they go over the wire.
func texts[K comparable](errs map[K]error) map[K]string {
	if len(errs) == 0 {
		return nil
	}
	result := make(map[K]string, len(errs))
	for key, err := range errs {
		result[key] = err.Error()
	}
	return result
}

// errs is the reverse of texts.
func errs[K comparable](texts map[K]string) map[K]error {
	result := make(map[K]error, len(texts))
	for key, text := range texts {
		result[key] = errors.New(text)
	}
	return result
}
