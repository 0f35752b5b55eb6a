package listen

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"

	"github.com/kubeshore/kubeshore/internal/netaddr"
	"github.com/kubeshore/kubeshore/internal/wake"
)

// Audience selects the users whose connections are accepted. It is the value of a
// flag; the empty one is the default, see [NewClients].
type Audience string

// The audiences.
const (
	ForMe       Audience = "me"       // the user of this process, and root
	ForEveryone Audience = "everyone" // all users of this machine
)

// String returns the flag's value.
func (a *Audience) String() string { return string(*a) }

// Set sets the audience by its name.
func (a *Audience) Set(name string) error {
	switch audience := Audience(name); audience {
	case ForMe, ForEveryone:
		*a = audience
		return nil
	}
	return fmt.Errorf("must be %s or %s", ForMe, ForEveryone)
}

// Type lists the audiences, for the help of the flag.
func (*Audience) Type() string { return "me|everyone" }

// ErrUnidentified means that this system doesn't tell which user a connection
// comes from.
var ErrUnidentified = errors.New("this system doesn't report the users of connections")

// maxReportedUsers is how many users are reported by name.
const maxReportedUsers = 16

// Clients decides which connections are accepted: those from this machine, of the
// users of an [Audience]. Its methods are safe for concurrent use.
type Clients struct {
	everyone bool
	own      uint32 // the user of this process
	diag     socketDiag

	mu      sync.Mutex
	refused uint64
	users   map[User]bool // whether the refused user was reported
	news    wake.Trigger  // fires when users has one that wasn't reported
}

// User is the user of a client.
type User struct {
	UID    uint32
	Known  bool // false if the client disconnected before its user was known
	Remote bool // the client is on another machine
}

// defaultAudience returns [ForMe], except for root, and on systems that don't report the
// users of connections.
func defaultAudience() Audience {
	if os.Geteuid() == 0 || runtime.GOOS != "linux" {
		return ForEveryone
	}
	return ForMe
}

// NewClients returns the Clients of an audience; the empty one is the default. It
// returns [ErrUnidentified] if users have to be identified, but can't be. A failure
// never widens the audience.
func NewClients(a Audience) (*Clients, error) {
	c := &Clients{everyone: true, users: make(map[User]bool), news: wake.NewTrigger()}
	if cmp.Or(a, defaultAudience()) == ForEveryone {
		return c, nil
	}
	own, err := c.identifySelf()
	if err != nil {
		c.Close()
		return nil, err
	}
	c.everyone, c.own = false, own
	return c, nil
}

// identifySelf returns the user of this process, as the system reports it for a
// connection.
func (c *Clients) identifySelf() (uint32, error) {
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(netaddr.Localhost, 0)))
	if err != nil {
		return 0, err
	}
	defer l.Close()
	client, err := net.DialTCP("tcp4", nil, l.Addr().(*net.TCPAddr)) //nolint:forcetypeassert // as documented by net
	if err != nil {
		return 0, err
	}
	defer client.Close()
	for {
		accepted, err := l.AcceptTCP()
		if err != nil {
			return 0, err
		}
		mine := accepted.RemoteAddr().String() == client.LocalAddr().String()
		uid, known := c.ownerOf(accepted)
		_ = accepted.Close() // nothing was written
		if !mine {
			continue
		}
		if own := os.Geteuid(); !known || own < 0 || uid != uint32(own) {
			return 0, ErrUnidentified
		}
		return uid, nil
	}
}

// Audience returns whose connections are accepted.
func (c *Clients) Audience() Audience {
	if c.everyone {
		return ForEveryone
	}
	return ForMe
}

// Admits reports whether an accepted connection may be forwarded. It counts one
// that may not. A connection that comes from another machine never may: with the
// system's route_localnet setting, 127.0.0.0/8 can be reached from a network.
func (c *Clients) Admits(conn net.Conn) bool {
	if !netaddr.AddrPort(conn.RemoteAddr()).Addr().IsLoopback() {
		c.refuse(User{Remote: true})
		return false
	}
	if c.everyone {
		return true
	}
	uid, known := c.ownerOf(conn)
	if known && (uid == c.own || uid == 0) {
		return true
	}
	c.refuse(User{UID: uid, Known: known})
	return false
}

func (c *Clients) refuse(user User) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused++
	if _, seen := c.users[user]; !seen && len(c.users) < maxReportedUsers {
		c.users[user] = false
		c.news.Fire()
	}
}

// Refused returns how many connections were refused.
func (c *Clients) Refused() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refused
}

// Report calls report once for each user whose connections are refused, up to
// sixteen users, until ctx ends.
func (c *Clients) Report(ctx context.Context, report func(User)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.news.C():
		}
		for _, user := range c.unreported() {
			report(user)
		}
	}
}

// unreported returns the users who were not reported, and marks them as reported.
func (c *Clients) unreported() []User {
	c.mu.Lock()
	defer c.mu.Unlock()
	var users []User
	for _, user := range slices.Collect(maps.Keys(c.users)) {
		if !c.users[user] {
			c.users[user] = true
			users = append(users, user)
		}
	}
	return users
}

// Close releases what the Clients use. It may be called more than once.
func (c *Clients) Close() { c.diag.close() }
