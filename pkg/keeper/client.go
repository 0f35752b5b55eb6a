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

	"github.com/kubeshore/kubeshore/internal/wake"
	"github.com/kubeshore/kubeshore/pkg/listen"
)

const (
	// helloTimeout is how long the keeper may take to send its hello. It may have
	// to wait for the hosts file.
	helloTimeout = 30 * time.Second
	// closeGrace is how long the keeper has to exit once the daemon has closed the
	// connection, and to read a request whose context has ended.
	closeGrace = 5 * time.Second
)

// ErrGone means that the keeper exited before the daemon. The keeper or its guard
// restores the machine.
var ErrGone = errors.New("the keeper (kubeshore's root helper) exited unexpectedly")

// Client is the daemon's end of the connection to a keeper. It performs the
// operations on the machine that the engine needs. Its methods are safe for
// concurrent use.
type Client struct {
	conn    *net.UnixConn
	how     string
	pending atomic.Pointer[call] // nil if no request waits for its response
	changed wake.Trigger
	writes  atomic.Uint64 // the number of writes to the hosts file
	done    chan struct{} // closed when Run has returned

	requestMu sync.Mutex // held for a request and its response
	sequence  uint64
}

// call is a request that waits for its response.
type call struct {
	sequence uint64
	reply    chan reply // buffered
}

// reply is a response and the descriptors that followed it.
type reply struct {
	response
	files []*os.File // nil for each one that was lost
}

// NewClient receives the hello of the keeper at the other end of conn, and returns
// a Client, which owns conn. If there is no usable keeper, NewClient closes conn
// and returns the reason.
func NewClient(ctx context.Context, conn *net.UnixConn, version string) (*Client, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, helloTimeout, fmt.Errorf("no message within %v", helloTimeout))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
	resp, err := readResponse(conn)
	if !stop() { // the deadline makes conn unusable
		err = context.Cause(ctx)
	}
	switch {
	case err != nil:
		err = fmt.Errorf("keeper handshake: %w", err)
	case resp.Error != "":
		err = errors.New(resp.Error)
	case resp.Hello == nil:
		err = errors.New("keeper handshake: first message is not a hello")
	case resp.Hello.Version != version:
		err = fmt.Errorf("keeper is kubeshore %s, daemon is %s: must be the same version", resp.Hello.Version, version)
	}
	if err != nil {
		_ = conn.Close() // the error above matters more
		return nil, err
	}
	return &Client{
		conn: conn, how: resp.Hello.How,
		changed: wake.NewTrigger(), done: make(chan struct{}),
	}, nil
}

// Run receives messages from the keeper until ctx ends. Then it closes the
// connection and waits for the keeper to exit. The other methods work only while
// Run runs. Run returns ErrGone, with the reason, if the keeper exits first. It
// must be called only once.
func (c *Client) Run(ctx context.Context) error {
	defer c.conn.Close()
	defer close(c.done)
	defer context.AfterFunc(ctx, func() {
		_ = c.conn.CloseWrite()
		_ = c.conn.SetReadDeadline(time.Now().Add(closeGrace))
	})()
	for {
		r, err := c.receive()
		if err != nil && ctx.Err() != nil {
			return nil // the keeper has exited, as expected
		}
		if err != nil {
			return gone(err)
		}
		if r.Changed {
			c.changed.Fire()
		}
		if r.Sequence == 0 {
			continue
		}
		if p := c.pending.Load(); p != nil && p.sequence == r.Sequence && c.pending.CompareAndSwap(p, nil) {
			p.reply <- r
		} else {
			closeAll(r.files) // the request's context has ended
		}
	}
}

// gone returns ErrGone, with err as the reason unless it only states that the
// connection is closed.
func gone(err error) error {
	if isClosed(err) || errors.Is(err, net.ErrClosed) { // the latter once Run has returned
		return ErrGone
	}
	return fmt.Errorf("%w: %w", ErrGone, err)
}

func (c *Client) receive() (reply, error) {
	resp, err := readResponse(c.conn)
	if err != nil {
		return reply{}, err
	}
	files, err := receiveFiles(c.conn, len(resp.Sockets))
	return reply{response: resp, files: files}, err
}

func readResponse(conn *net.UnixConn) (response, error) {
	message, err := readMessage(conn)
	if err != nil {
		return response{}, err
	}
	var resp response
	err = json.Unmarshal(message, &resp)
	return resp, err
}

// do sends a request and waits for its response. If the response has an error, do
// returns that along with the response.
func (c *Client) do(ctx context.Context, r request) (reply, error) {
	c.requestMu.Lock()
	defer c.requestMu.Unlock()
	c.sequence++
	r.Sequence = c.sequence
	message, err := encode(r)
	if err != nil {
		return reply{}, err
	}
	waiting := &call{sequence: r.Sequence, reply: make(chan reply, 1)}
	c.pending.Store(waiting)
	if err := c.write(ctx, message); err != nil {
		c.pending.Store(nil)
		return reply{}, gone(err)
	}
	select {
	case received := <-waiting.reply:
		if received.Error != "" {
			return received, errors.New(received.Error)
		}
		return received, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-c.done:
		err = ErrGone
	}
	if c.pending.Swap(nil) == nil {
		closeAll((<-waiting.reply).files) // the response arrived just now
	}
	return reply{}, err
}

// write sends a message. When ctx ends, the keeper gets a grace period to read the
// rest. If it doesn't, the connection is closed, because it may have transferred
// half of the message.
func (c *Client) write(ctx context.Context, message []byte) error {
	deadlineSet := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(deadlineSet)
		_ = c.conn.SetWriteDeadline(time.Now().Add(closeGrace))
	})
	_, err := c.conn.Write(message)
	if !stop() {
		<-deadlineSet
		_ = c.conn.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		_ = c.conn.Close() // unusable either way
	}
	return err
}

// How describes how the keeper listens.
func (c *Client) How() string { return c.how }

// Take implements [listen.Taker].
func (c *Client) Take(ctx context.Context, want, existing []netip.AddrPort) (sockets []listen.Socket, portErrors map[netip.AddrPort]error, err error) {
	if want == nil {
		want = []netip.AddrPort{}
	}
	r, err := c.do(ctx, request{Ports: &want, Existing: existing})
	portErrors = textErrors(r.PortErrors)
	for i, file := range r.files {
		socket, socketErr := newSocket(r.Sockets[i], file)
		if socketErr != nil {
			err = errors.Join(err, addSocketError(portErrors, r.Sockets[i], socketErr))
			continue
		}
		sockets = append(sockets, socket)
	}
	return sockets, portErrors, err
}

// newSocket returns a socket for a file, and closes the file, so that no more than
// one descriptor exists twice at a time.
func newSocket(at netip.AddrPort, file *os.File) (listen.Socket, error) {
	if file == nil {
		return listen.Socket{}, syscall.EMFILE
	}
	defer file.Close()
	return listen.NewSocket(at, file)
}

// Close does nothing: the keeper closes its Taker when Run ends.
func (*Client) Close() error { return nil }

// Names returns the names of the machine, as an fwd.Names.
func (c *Client) Names() *ClientNames { return &ClientNames{c} }

// ClientNames sets the names of the machine through a keeper.
type ClientNames struct{ client *Client }

// Set is like that of hosts.File. If the keeper has exited, there are no names any
// more, so setting none succeeds.
func (n *ClientNames) Set(ctx context.Context, table map[netip.Addr][]string) (map[string]error, error) {
	if table == nil {
		table = map[netip.Addr][]string{}
	}
	r, err := n.client.do(ctx, request{Names: &table})
	if errors.Is(err, ErrGone) && len(table) == 0 {
		return nil, nil
	}
	n.client.writes.Store(max(r.Writes, n.client.writes.Load()))
	return textErrors(r.Refused), err
}

// Writes is like that of hosts.File, as of the last Set.
func (n *ClientNames) Writes() uint64 { return n.client.writes.Load() }

// Changed is like that of hosts.File.
func (n *ClientNames) Changed() <-chan struct{} { return n.client.changed.C() }

// Aliases returns the address aliases of the machine, as an fwd.Aliases.
func (c *Client) Aliases() *ClientAliases { return &ClientAliases{c} }

// ClientAliases sets the address aliases of the machine through a keeper.
type ClientAliases struct{ client *Client }

// Set is like that of loopback.Aliases. If the keeper has exited, there are no
// aliases any more, so setting none succeeds.
func (a *ClientAliases) Set(ctx context.Context, addrs []netip.Addr) error {
	if addrs == nil {
		addrs = []netip.Addr{}
	}
	_, err := a.client.do(ctx, request{Addrs: &addrs})
	if errors.Is(err, ErrGone) && len(addrs) == 0 {
		return nil
	}
	return err
}
