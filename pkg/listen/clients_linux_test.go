package listen_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"

	"github.com/kubeshore/kubeshore/pkg/listen"
)

// dialAs connects to at with a socket of another user, sends a byte, and closes the
// socket if gone is set. The thread that becomes that user isn't used again.
func dialAs(t *testing.T, uid int, at netip.AddrPort, gone bool) (closeClient func()) {
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
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err == nil {
			err = syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()})
		}
		if err == nil {
			_, err = syscall.Write(fd, []byte("x"))
		}
		if gone && err == nil {
			err = syscall.Close(fd)
		}
		done <- result{fd, err}
	}()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	return func() {
		if !gone {
			_ = syscall.Close(r.fd)
		}
	}
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
			closeClient := dialAs(t, c.client, at, c.gone)
			defer closeClient()
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
