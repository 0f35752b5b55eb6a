package listen

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/kubeshore/kubeshore/internal/netaddr"
)

// The layout of linux/inet_diag.h: a request is a header, six fields and the
// socket's identity; a response is a header and 72 bytes.
const (
	diagRequestSize  = unix.SizeofNlMsghdr + 56
	diagResponseSize = unix.SizeofNlMsghdr + 72
	diagSequenceAt   = 8                        // in both: chosen by the request
	diagIDAt         = unix.SizeofNlMsghdr + 8  // in a request: the socket's identity
	diagStateAt      = unix.SizeofNlMsghdr + 1  // in a response: the state of the TCP connection
	diagPeerPortAt   = unix.SizeofNlMsghdr + 6  // in a response: the remote port
	diagUIDAt        = unix.SizeofNlMsghdr + 64 // in a response: the user who created the socket
	diagInodeAt      = unix.SizeofNlMsghdr + 68 // in a response: 0 if no process has the socket open
	diagAllStates    = 1<<32 - 1
)

// errNoSocket reports that the requested socket doesn't exist.
var errNoSocket = errors.New("sock_diag: no such socket")

// socketInfo is what the kernel reports about a TCP socket.
type socketInfo struct {
	uid   uint32 // 0 also if it is unknown
	inode uint32 // 0 if no process has the socket open
}

// socketDiag asks the kernel about TCP sockets (sock_diag(7)), which needs no
// privileges. It keeps its netlink socket open: to open one for each question
// doubles the cost. The zero socketDiag is ready to use, by any goroutine.
type socketDiag struct {
	mu       sync.Mutex
	fd       int // of the netlink socket, if opened
	opened   bool
	sequence uint32
}

// clientOf returns the kernel's information about the client's socket of an
// accepted connection, whose client is on this machine.
func (d *socketDiag) clientOf(conn net.Conn) (socketInfo, error) {
	client, server := netaddr.AddrPort(conn.RemoteAddr()), netaddr.AddrPort(conn.LocalAddr())
	if !client.IsValid() || !server.IsValid() {
		return socketInfo{}, errors.New("sock_diag: not a TCP connection")
	}
	return d.find(client, server)
}

// find returns the kernel's information about the TCP socket that is bound to
// local and connected to remote. The error is errNoSocket if there is none.
func (d *socketDiag) find(local, remote netip.AddrPort) (socketInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.openLocked(); err != nil {
		return socketInfo{}, err
	}
	d.sequence++
	if err := unix.Sendto(d.fd, diagRequest(d.sequence, local, remote), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return socketInfo{}, err
	}
	for {
		var response [512]byte
		n, _, err := unix.Recvfrom(d.fd, response[:], unix.MSG_DONTWAIT) // Sendto returned after the kernel had responded
		if err != nil {
			return socketInfo{}, err
		}
		if n >= unix.SizeofNlMsghdr && binary.NativeEndian.Uint32(response[diagSequenceAt:]) != d.sequence {
			continue // of an earlier request that was interrupted
		}
		return parseDiag(response[:n], remote.Port())
	}
}

// openLocked opens the netlink socket if it isn't open. mu must be held.
func (d *socketDiag) openLocked() (err error) {
	if !d.opened {
		d.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
		d.opened = err == nil
	}
	return err
}

// close closes the netlink socket. Another request opens it again.
func (d *socketDiag) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.opened {
		_ = unix.Close(d.fd) // nothing was written
		d.opened = false
	}
}

// diagRequest returns a request for a single socket, identified by its complete
// address. The kernel looks it up instead of walking all sockets.
func diagRequest(sequence uint32, local, remote netip.AddrPort) []byte {
	b := make([]byte, diagRequestSize)
	binary.NativeEndian.PutUint32(b[0:], diagRequestSize)
	binary.NativeEndian.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	binary.NativeEndian.PutUint32(b[diagSequenceAt:], sequence)
	b[16] = unix.AF_INET
	if local.Addr().Is6() {
		b[16] = unix.AF_INET6
	}
	b[17] = unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[20:], diagAllStates)
	id := b[diagIDAt:]
	binary.BigEndian.PutUint16(id[0:], local.Port())
	binary.BigEndian.PutUint16(id[2:], remote.Port())
	copy(id[4:20], local.Addr().AsSlice())
	copy(id[20:36], remote.Addr().AsSlice())
	for i := 40; i < 48; i++ {
		id[i] = 0xff // INET_DIAG_NOCOOKIE
	}
	return b
}

// parseDiag returns the socket of a response. If the connection doesn't exist,
// the kernel may return a listener on the same port instead, or a socket that has only
// begun to connect, which don't count.
func parseDiag(response []byte, peerPort uint16) (socketInfo, error) {
	if len(response) < unix.SizeofNlMsghdr+4 {
		return socketInfo{}, errors.New("sock_diag: response too short")
	}
	switch kind := binary.NativeEndian.Uint16(response[4:]); {
	case kind == unix.NLMSG_ERROR:
		errno := unix.Errno(-int32(binary.NativeEndian.Uint32(response[unix.SizeofNlMsghdr:])))
		if errno == unix.ENOENT {
			return socketInfo{}, errNoSocket
		}
		return socketInfo{}, errno
	case kind != unix.SOCK_DIAG_BY_FAMILY || len(response) < diagResponseSize:
		return socketInfo{}, errors.New("sock_diag: unexpected response")
	case binary.BigEndian.Uint16(response[diagPeerPortAt:]) != peerPort, response[diagStateAt] == unix.BPF_TCP_SYN_SENT:
		return socketInfo{}, errNoSocket
	}
	return socketInfo{
		uid:   binary.NativeEndian.Uint32(response[diagUIDAt:]),
		inode: binary.NativeEndian.Uint32(response[diagInodeAt:]),
	}, nil
}
