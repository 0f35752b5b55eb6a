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

	"github.com/kubeshore/kubeshore/internal/namepolicy"
	"github.com/kubeshore/kubeshore/internal/wake"
	"github.com/kubeshore/kubeshore/pkg/listen"
)

const (
	// helloTimeout is how long the keeper may take to send its hello. It may have
	// to wait for the hosts file.
	helloTimeout = 30 * time.Second
	// closeGrace is how long the keeper has to read the last request, and to exit once
	// the daemon has closed the connection.
	closeGrace = 5 * time.Second
	// responseTimeout is how long the keeper may take to respond to a request. That is
	// longer than it waits for other programs, e.g. for a lock of the hosts file.
	responseTimeout = 15 * time.Second
)

// ErrGone means that the keeper exited before the daemon. The keeper or its guard
// restores the machine.
var ErrGone = errors.New("the keeper (kubeshore's root helper) exited unexpectedly")

// ErrUnresponsive means that the keeper didn't respond in time, e.g. because it was
// stopped. Requests succeed again as soon as it continues.
var ErrUnresponsive = errors.New("the keeper (kubeshore's root helper) doesn't respond")

// Client is the daemon's end of the connection to a keeper. It performs the
// operations on the machine that the engine needs. Its methods are safe for
// concurrent use.
type Client struct {
	conn            *net.UnixConn
	how             string
	policy          namepolicy.Policy
	responseTimeout time.Duration // the constant, except in tests
	changed         wake.Trigger
	writes          atomic.Uint64 // the number of writes to the hosts file
	outgoing        chan []byte   // buffered: messages for Run to send
	done            chan struct{} // closed when Run has returned

	// idle contains a value while no request is without a response. A request takes
	// that value: requests don't pile up in front of a keeper that doesn't respond.
	idle     chan struct{}
	sequence uint64 // of the last request; guarded by idle

	mu   sync.Mutex
	sent *call // the request without a response; nil if there is none
}

// call is a request that was sent.
type call struct {
	sequence  uint64
	reply     chan reply // buffered
	abandoned bool       // nobody waits for the reply; guarded by Client.mu
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
	c := &Client{
		conn: conn, how: resp.Hello.How, responseTimeout: responseTimeout,
		policy:  namepolicy.Policy{Full: resp.Hello.FullNames, Patterns: resp.Hello.PublicNames},
		changed: wake.NewTrigger(), outgoing: make(chan []byte, 1), done: make(chan struct{}), idle: make(chan struct{}, 1),
	}
	c.idle <- struct{}{}
	return c, nil
}

// NamePolicy returns the policy by which the keeper refuses names, without the
// reserved ones.
func (c *Client) NamePolicy() namepolicy.Policy { return c.policy }

// Run exchanges messages with the keeper until ctx ends. Then it closes the
// connection and waits for the keeper to exit. The other methods work only while
// Run runs. Run returns ErrGone, with the reason, if the keeper exits first. It
// must be called only once.
func (c *Client) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var sending sync.WaitGroup
	defer sending.Wait()
	defer c.conn.Close()
	defer cancel()
	defer close(c.done)
	defer context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Now().Add(closeGrace)) })()
	sending.Go(func() { c.send(ctx) })
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
		if r.Sequence != 0 {
			c.deliver(r)
		}
	}
}

// send sends messages, however long the keeper needs to read them, until ctx ends.
// Then it closes the sending half.
func (c *Client) send(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			_ = c.conn.CloseWrite()
			return
		case message := <-c.outgoing:
			if _, err := c.conn.Write(message); err != nil {
				_ = c.conn.Close() // unusable, because it may have transferred half of the message
				return
			}
		}
	}
}

// deliver passes a response to the request that waits for it, if there is one.
func (c *Client) deliver(r reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sent := c.sent
	if sent == nil || sent.sequence != r.Sequence {
		closeAll(r.files)
		return
	}
	c.sent = nil
	c.idle <- struct{}{}
	if sent.abandoned {
		closeAll(r.files)
		return
	}
	sent.reply <- r
}

// gone returns ErrGone, with err as the reason unless it only states that the
// connection is closed.
func gone(err error) error {
	if isClosed(err) || errors.Is(err, net.ErrClosed) { // the latter after a failed write
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
	ctx, cancel := context.WithTimeoutCause(ctx, c.responseTimeout, ErrUnresponsive)
	defer cancel()
	select {
	case <-c.idle:
	case <-ctx.Done():
		return reply{}, context.Cause(ctx)
	case <-c.done:
		return reply{}, ErrGone
	}
	c.sequence++
	r.Sequence = c.sequence
	message, err := encode(r)
	if err != nil {
		c.idle <- struct{}{}
		return reply{}, err
	}
	waiting := &call{sequence: r.Sequence, reply: make(chan reply, 1)}
	c.mu.Lock()
	c.sent = waiting
	c.mu.Unlock()
	c.outgoing <- message
	select {
	case received := <-waiting.reply:
		if received.Error != "" {
			return received, errors.New(received.Error)
		}
		return received, nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-c.done:
		err = ErrGone
	}
	c.abandon(waiting)
	return reply{}, err
}

// abandon declares that nobody waits for the response to a request any more.
func (c *Client) abandon(sent *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sent.abandoned = true
	select {
	case received := <-sent.reply: // it arrived just now
		closeAll(received.files)
	default:
	}
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
