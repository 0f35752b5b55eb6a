package listen

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/kubeshore/kubeshore/internal/netaddr"
)

// The layout of linux/inet_diag.h: a request is a header, six fields and the
// socket's identity; a response is a header and 72 bytes.
const (
	diagRequestSize  = unix.SizeofNlMsghdr + 56
	diagResponseSize = unix.SizeofNlMsghdr + 72
	diagIDAt         = unix.SizeofNlMsghdr + 8  // in a request: the socket's identity
	diagPeerPortAt   = unix.SizeofNlMsghdr + 6  // in a response: the remote port
	diagInodeAt      = unix.SizeofNlMsghdr + 68 // in a response: 0 if no process has the socket open
	diagAllStates    = 1<<32 - 1
)

// Orphaned reports whether the client of conn has closed its socket or exited,
// as opposed to having only shut down its sending side with shutdown(2): both
// look the same on the wire. conn must have been accepted from a client on this
// machine. Orphaned asks the kernel (sock_diag(7)), which takes a few
// microseconds and needs no privileges. It returns false if the answer isn't
// known, which is always the case on systems other than Linux.
func Orphaned(conn net.Conn) bool {
	client, server := netaddr.AddrPort(conn.RemoteAddr()), netaddr.AddrPort(conn.LocalAddr())
	if !client.IsValid() || !server.IsValid() {
		return false
	}
	owned, err := hasOwner(client, server)
	return err == nil && !owned
}

// hasOwner reports whether a process has the TCP socket open that is bound to
// local and connected to remote.
func hasOwner(local, remote netip.AddrPort) (bool, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, diagRequest(local, remote), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return false, err
	}
	var response [512]byte
	n, _, err := unix.Recvfrom(fd, response[:], unix.MSG_DONTWAIT) // Sendto returned after the kernel had responded
	if err != nil {
		return false, err
	}
	return parseOwned(response[:n], remote.Port())
}

// diagRequest returns a request for a single socket, identified by its complete
// address. The kernel looks it up instead of walking all sockets.
func diagRequest(local, remote netip.AddrPort) []byte {
	b := make([]byte, diagRequestSize)
	binary.NativeEndian.PutUint32(b[0:], diagRequestSize)
	binary.NativeEndian.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
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

// parseOwned reports whether the socket in a response is owned by a process. If
// the connection doesn't exist, the kernel may return a listener on the same
// port instead, which doesn't count.
func parseOwned(response []byte, peerPort uint16) (bool, error) {
	if len(response) < unix.SizeofNlMsghdr+4 {
		return false, errors.New("sock_diag: response too short")
	}
	switch kind := binary.NativeEndian.Uint16(response[4:]); {
	case kind == unix.NLMSG_ERROR:
		errno := unix.Errno(-int32(binary.NativeEndian.Uint32(response[unix.SizeofNlMsghdr:])))
		if errno == unix.ENOENT {
			return false, nil
		}
		return false, errno
	case kind != unix.SOCK_DIAG_BY_FAMILY || len(response) < diagResponseSize:
		return false, errors.New("sock_diag: unexpected response")
	case binary.BigEndian.Uint16(response[diagPeerPortAt:]) != peerPort:
		return false, nil
	}
	return binary.NativeEndian.Uint32(response[diagInodeAt:]) != 0, nil
}
