package listen_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubeshore/kubeshore/pkg/listen"
)

// client is a connection that another user makes.
type client struct {
	uid    int
	from   int    // port; 0: any
	device string // that the socket is bound to; empty: any
	deaf   bool   // it drops all responses, so it never gets beyond the SYN
	reset  bool   // close resets the connection
}

// socketAs returns a TCP socket of another user. The thread that becomes that user isn't
// used again.
func socketAs(t *testing.T, uid int) int {
	t.Helper()
	type result struct {
		fd  int
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			done <- result{-1, errno}
			return
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		done <- result{fd, err}
	}()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.fd
}

// dial connects to at, and sends a byte. It returns the client's port, and a function
// that closes its socket.
func (c client) dial(t *testing.T, at netip.AddrPort) (port int, closeClient func()) {
	t.Helper()
	fd := socketAs(t, c.uid)
	closeClient = sync.OnceFunc(func() { _ = unix.Close(fd) })
	t.Cleanup(closeClient)
	if err := c.connect(fd, at); err != nil {
		t.Fatal(err)
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return local.(*unix.SockaddrInet4).Port, closeClient
}

func (c client) connect(fd int, at netip.AddrPort) error {
	errs := []error{unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)}
	if c.device != "" {
		errs = append(errs, unix.BindToDevice(fd, c.device))
	}
	if c.reset {
		errs = append(errs, unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
	}
	if c.deaf {
		drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
		filter := &unix.SockFprog{Len: 1, Filter: &drop}
		errs = append(errs, unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, filter), unix.SetNonblock(fd, true))
	}
	errs = append(errs, unix.Bind(fd, &unix.SockaddrInet4{Port: c.from, Addr: [4]byte{127, 0, 0, 1}}))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()})
	if c.deaf && errors.Is(err, unix.EINPROGRESS) {
		return nil
	}
	if err == nil {
		_, err = unix.Write(fd, []byte("x"))
	}
	return err
}

// acceptFrom returns the next connection of a listener.
func acceptFrom(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// The user of this process, and root, are admitted, other users are not. A client
// that sends its bytes and closes at once is never taken for another user, e.g. for
// root, whom the kernel reports for sockets that are gone.
func TestOtherUsersAreRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const own, other = 64001, 64002
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := netip.MustParseAddrPort(l.Addr().String())
	for _, c := range []struct {
		name     string
		audience listen.Audience
		self     uint32
		client   int
		gone     bool
		want     bool
	}{
		{"own", listen.ForMe, own, own, false, true},
		{"own, gone", listen.ForMe, own, own, true, true},
		{"root", listen.ForMe, own, 0, false, true},
		{"other", listen.ForMe, own, other, false, false},
		{"other, gone", listen.ForMe, own, other, true, false},
		{"other, for everyone", listen.ForEveryone, own, other, false, true},
		{"other, of root's", listen.ForMe, 0, other, false, false},
		{"other, gone, of root's", listen.ForMe, 0, other, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			clients := newClients(t, c.audience)
			listen.SetOwnUser(clients, c.self)
			_, closeClient := client{uid: c.client}.dial(t, at)
			if c.gone {
				closeClient()
			}
			conn := acceptFrom(t, l)
			if c.gone && c.want && kernelBefore(t, 6, 17) {
				t.Skip("this kernel doesn't report the user of a socket that is gone")
			}
			if got := clients.Admits(conn); got != c.want {
				t.Errorf("Admits: got %v, want %v", got, c.want)
			}
		})
	}
}

// A connection never counts as one of another client that has got its port: after a
// reset it waits in the queue, with its bytes, while the port is free; and sockets that
// are bound to different devices can have the same port at once.
func TestConnectionIsNotTakenForASuccessors(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const own, other = 64001, 64002
	for _, c := range []struct {
		name      string
		first     client
		gone      bool // before the successor connects
		successor client
	}{
		{"after a reset", client{uid: other, reset: true}, true, client{uid: own}},
		{"after a reset, root's", client{uid: other, reset: true}, true, client{}},
		{"on another device", client{uid: other, device: "lo"}, false, client{uid: own}},
		{"on another device, without a response", client{uid: other, device: "lo"}, false, client{uid: own, deaf: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			at := netip.MustParseAddrPort(l.Addr().String())
			clients := newClients(t, listen.ForMe)
			listen.SetOwnUser(clients, own)
			port, closeFirst := c.first.dial(t, at)
			if c.gone {
				closeFirst()
			}
			c.successor.from = port
			c.successor.dial(t, at)
			if clients.Admits(acceptFrom(t, l)) {
				t.Error("the connection of the first client is admitted")
			}
			if !c.successor.deaf && !clients.Admits(acceptFrom(t, l)) {
				t.Error("the connection of the second client isn't admitted")
			}
		})
	}
}

func kernelBefore(t *testing.T, major, minor int) bool {
	t.Helper()
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	var gotMajor, gotMinor int
	if _, err := fmt.Sscanf(string(release), "%d.%d", &gotMajor, &gotMinor); err != nil {
		t.Fatal(err)
	}
	return gotMajor < major || gotMajor == major && gotMinor < minor
}
