package listen

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// The layout of linux/inet_diag.h: a request is a header, six fields and the
// socket's identity; an answer is a header and 72 bytes.
const (
	diagRequestSize = unix.SizeofNlMsghdr + 56
	diagAnswerSize  = unix.SizeofNlMsghdr + 72
	diagIDAt        = unix.SizeofNlMsghdr + 8  // of a request: the identity
	diagPeerPortAt  = unix.SizeofNlMsghdr + 6  // of an answer: the far port
	diagInodeAt     = unix.SizeofNlMsghdr + 68 // of an answer: 0 if no process has the socket
	diagAllStates   = 1<<32 - 1
)

// Orphaned tells whether the client of conn, which must be a connection that
// was accepted from this machine, has let go of its socket: it was closed, or
// its process is gone. A client that has ended only its sending half, with
// shutdown(2), still has it; on the wire the two look the same. It asks the
// kernel (sock_diag(7)), needs no privileges and takes some microseconds.
// Where it can't tell, which is always so on systems other than Linux, it is
// false.
func Orphaned(conn net.Conn) bool {
	client, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return false
	}
	server, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return false
	}
	owned, err := hasOwner(client, server)
	return err == nil && !owned
}

// hasOwner tells whether a process has the TCP socket that is bound to local
// and connected to remote.
func hasOwner(local, remote netip.AddrPort) (bool, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, diagRequest(local, remote), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return false, err
	}
	var answer [512]byte
	n, _, err := unix.Recvfrom(fd, answer[:], unix.MSG_DONTWAIT) // Sendto has waited for it
	if err != nil {
		return false, err
	}
	return ownerIn(answer[:n], remote.Port())
}

// diagRequest asks for one socket, by its whole identity and not by a search.
func diagRequest(local, remote netip.AddrPort) []byte {
	local = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
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

// ownerIn reads the answer. A listener is no answer: the kernel takes one on
// the same port where it finds no connection.
func ownerIn(answer []byte, peerPort uint16) (bool, error) {
	if len(answer) < unix.SizeofNlMsghdr+4 {
		return false, errors.New("sock_diag: a short answer")
	}
	switch kind := binary.NativeEndian.Uint16(answer[4:]); {
	case kind == unix.NLMSG_ERROR:
		errno := unix.Errno(-int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])))
		if errno == unix.ENOENT {
			return false, nil
		}
		return false, errno
	case kind != unix.SOCK_DIAG_BY_FAMILY || len(answer) < diagAnswerSize:
		return false, errors.New("sock_diag: not the answer to the question")
	case binary.BigEndian.Uint16(answer[diagPeerPortAt:]) != peerPort:
		return false, nil
	}
	return binary.NativeEndian.Uint32(answer[diagInodeAt:]) != 0, nil
}
