//go:build linux || darwin

package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kubeshore/kubeshore/pkg/listen"
)

const (
	// helloTime is how long the keeper may take to begin: it may have to wait for the
	// hosts file.
	helloTime = 30 * time.Second
	// byeTime is how long it may take to end once the daemon has.
	byeTime = 5 * time.Second
)

// ErrGone says that the keeper has ended on its own. What it did to the machine
// is taken back, by itself or by its guard.
var ErrGone = errors.New("the part of kubeshore that runs as root (its keeper) has ended; kubeshore can't go on without it")

// Client is the daemon's end: what the engine needs of the machine, done by a
// keeper. Its methods may be called by several goroutines at once.
type Client struct {
	conn    *net.UnixConn
	how     string
	waiting atomic.Pointer[waiter] // nil if nobody waits
	changed chan struct{}
	writes  atomic.Uint64 // of the hosts file
	ended   chan struct{} // closed when Run has returned

	asking   sync.Mutex // for one request at a time
	sequence uint64
}

// waiter waits for the reply to a request.
type waiter struct {
	sequence uint64
	reply    chan received // has room for it
}

// received is an answer with the descriptors that came with it.
type received struct {
	answer
	files []*os.File // nil stands for one that was lost
}

// NewClient returns the client of the keeper at the other end of conn, which it
// owns from then on, once that has begun. Its error is what keeps the keeper
// from it.
func NewClient(ctx context.Context, conn *net.UnixConn, version string) (*Client, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, helloTime, fmt.Errorf("nothing came for %v", helloTime))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
	a, err := readAnswer(conn)
	if !stop() { // conn is of no use any more
		err = context.Cause(ctx)
	}
	switch {
	case err != nil:
		err = fmt.Errorf("the keeper doesn't begin: %w", err)
	case a.Error != "":
		err = errors.New(a.Error)
	case a.Hello == nil:
		err = errors.New("the keeper doesn't begin with a hello")
	case a.Hello.Version != version:
		err = fmt.Errorf("the keeper is kubeshore %s, and this is %s", a.Hello.Version, version)
	}
	if err != nil {
		_ = conn.Close() // there is nothing to say
		return nil, err
	}
	return &Client{
		conn: conn, how: a.Hello.How,
		changed: make(chan struct{}, 1), ended: make(chan struct{}),
	}, nil
}

// Run receives what the keeper says until ctx ends; then it lets the keeper end
// and waits for that. Nothing is done for the other methods unless Run runs. It
// returns ErrGone, and why, if the keeper ends first. It must be called once.
func (c *Client) Run(ctx context.Context) error {
	defer c.conn.Close()
	defer close(c.ended)
	defer context.AfterFunc(ctx, func() {
		_ = c.conn.CloseWrite()
		_ = c.conn.SetReadDeadline(time.Now().Add(byeTime))
	})()
	for {
		r, err := c.receive()
		if err != nil && ctx.Err() != nil {
			return nil // it has ended, as it was to
		}
		if err != nil {
			return gone(err)
		}
		if r.Changed {
			select {
			case c.changed <- struct{}{}:
			default:
			}
		}
		if r.Sequence == 0 {
			continue
		}
		if w := c.waiting.Load(); w != nil && w.sequence == r.Sequence && c.waiting.CompareAndSwap(w, nil) {
			w.reply <- r
		} else {
			closeAll(r.files) // somebody had no patience
		}
	}
}

// gone says that the keeper has ended, and why, if there is more to say of it.
func gone(err error) error {
	if isEnd(err) || errors.Is(err, net.ErrClosed) { // the latter once Run has returned
		return ErrGone
	}
	return fmt.Errorf("%w (%w)", ErrGone, err)
}

func (c *Client) receive() (received, error) {
	a, err := readAnswer(c.conn)
	if err != nil {
		return received{}, err
	}
	files, err := receiveFiles(c.conn, len(a.Sockets))
	return received{answer: a, files: files}, err
}

func readAnswer(conn *net.UnixConn) (answer, error) {
	var a answer
	message, err := readMessage(conn)
	if err == nil {
		err = json.Unmarshal(message, &a)
	}
	return a, err
}

// ask sends a request and waits for its reply. The error is that of asking, or
// what the keeper says.
func (c *Client) ask(ctx context.Context, r request) (received, error) {
	c.asking.Lock()
	defer c.asking.Unlock()
	c.sequence++
	r.Sequence = c.sequence
	message, err := encode(r)
	if err != nil {
		return received{}, err
	}
	w := &waiter{sequence: r.Sequence, reply: make(chan received, 1)}
	c.waiting.Store(w)
	if err := c.write(ctx, message); err != nil {
		c.waiting.Store(nil)
		return received{}, gone(err)
	}
	select {
	case reply := <-w.reply:
		if reply.Error != "" {
			return reply, errors.New(reply.Error)
		}
		return reply, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-c.ended:
		err = ErrGone
	}
	if c.waiting.Swap(nil) == nil {
		closeAll((<-w.reply).files) // it came just now
	}
	return received{}, err
}

// write sends a request. A keeper that doesn't read it is given a moment when ctx
// ends; then the connection is of no more use, as it may have half of it.
func (c *Client) write(ctx context.Context, message []byte) error {
	limited := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(limited)
		_ = c.conn.SetWriteDeadline(time.Now().Add(byeTime))
	})
	_, err := c.conn.Write(message)
	if !stop() {
		<-limited
		_ = c.conn.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		_ = c.conn.Close() // it is the end either way
	}
	return err
}

// How says how ports are taken.
func (c *Client) How() string { return c.how }

// Take is that of a listen.Taker.
func (c *Client) Take(ctx context.Context, want, have []netip.AddrPort) (taken []listen.Socket, faults map[netip.AddrPort]error, err error) {
	if want == nil {
		want = []netip.AddrPort{}
	}
	reply, err := c.ask(ctx, request{Ports: &want, Have: have})
	faults = errs(reply.Faults)
	for i, file := range reply.files {
		socket, e := newSocket(reply.Sockets[i], file)
		if e == nil {
			taken = append(taken, socket)
		} else {
			err = errors.Join(err, lost(faults, reply.Sockets[i], e))
		}
	}
	return taken, faults, err
}

// newSocket returns the socket that a file is, which it closes: a limit of descriptors
// has room for one more than there are ports.
func newSocket(of netip.AddrPort, file *os.File) (listen.Socket, error) {
	if file == nil {
		return listen.Socket{}, syscall.EMFILE
	}
	defer file.Close()
	return listen.NewSocket(of, file)
}

// Close has nothing to do: the keeper lets go of what it has when Run is told
// to end.
func (*Client) Close() error { return nil }

// Names returns the names of the machine, as fwd.Names has them.
func (c *Client) Names() *ClientNames { return &ClientNames{c} }

// ClientNames are the names of the machine.
type ClientNames struct{ client *Client }

// Set is that of hosts.File. Where the keeper is gone so are all names.
func (n *ClientNames) Set(ctx context.Context, table map[netip.Addr][]string) (map[string]error, error) {
	if table == nil {
		table = map[netip.Addr][]string{}
	}
	reply, err := n.client.ask(ctx, request{Names: &table})
	if errors.Is(err, ErrGone) && len(table) == 0 {
		return nil, nil
	}
	n.client.writes.Store(max(reply.Writes, n.client.writes.Load()))
	return errs(reply.Refused), err
}

// Writes is that of hosts.File, as of the last Set.
func (n *ClientNames) Writes() uint64 { return n.client.writes.Load() }

// Changed is that of hosts.File.
func (n *ClientNames) Changed() <-chan struct{} { return n.client.changed }

// Aliases returns the addresses of the machine, as fwd.Aliases has them.
func (c *Client) Aliases() *ClientAliases { return &ClientAliases{c} }

// ClientAliases are the addresses of the machine.
type ClientAliases struct{ client *Client }

// Set is that of loopback.Aliases. Where the keeper is gone so are all addresses.
func (a *ClientAliases) Set(ctx context.Context, addrs []netip.Addr) error {
	if addrs == nil {
		addrs = []netip.Addr{}
	}
	_, err := a.client.ask(ctx, request{Addrs: &addrs})
	if errors.Is(err, ErrGone) && len(addrs) == 0 {
		err = nil
	}
	return err
}
