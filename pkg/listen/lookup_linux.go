package listen

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// maxEntries is the capacity of each map: of addresses, and of ports.
const maxEntries = 1 << 17

// socketAddr is the address that the shared socket is bound to. It isn't
// reachable there: like every address in the map, this one refuses connections
// to ports that are not.
var socketAddr = netip.AddrFrom4([4]byte{127, 255, 255, 254})

// socketPorts are tried in turn for the shared socket. No program can listen at
// all addresses on the socket's port, so these are ports that no program uses.
// The system chooses a port (0) only if other users' sockets occupy them all.
var socketPorts = []uint16{1, 2, 3, 4, 5, 6, 0}

// Lookup is a [Taker] that has one socket for all addresses and ports. For each
// new connection in this network namespace, the kernel runs an eBPF program at
// the sk_lookup hook (Linux 5.9, Documentation/bpf/prog_sk_lookup.rst), which
// selects the socket. The ports are not bound, so other programs can listen on
// the same ports at all addresses. Connections to other ports of the same
// addresses are refused and don't reach those programs. The kernel detaches the
// program when the process exits.
type Lookup struct {
	ports   *ebpf.Map // a set of portKey
	addrs   *ebpf.Map // the set of addresses of these ports, and socketAddr
	sockets *ebpf.Map // the shared socket, as long as a process has it open
	program *ebpf.Program
	link    link.Link

	mu     sync.Mutex
	loaded map[netip.AddrPort]bool // the ports that are, or may be, in the maps
	exact  bool                    // all of loaded, and nothing else, is in the maps
	socket *Socket                 // nil once Take has returned it
}

// portKey is the key of the map of ports, laid out as the eBPF program builds it.
type portKey struct {
	Addr [4]byte
	Port uint32
}

// newLookup loads and attaches the program. Its error names the missing feature
// or privilege.
func newLookup(ctx context.Context) (taker Taker, err error) {
	l := &Lookup{loaded: make(map[netip.AddrPort]bool)}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if err := rlimit.RemoveMemlock(); err != nil { // maps count towards it before Linux 5.11
		return nil, unavailable(err)
	}
	for _, m := range []struct {
		field **ebpf.Map
		spec  ebpf.MapSpec
	}{
		{&l.ports, ebpf.MapSpec{Name: "kubeshore_ports", Type: ebpf.Hash, KeySize: 8, ValueSize: 1, MaxEntries: maxEntries, Flags: unix.BPF_F_NO_PREALLOC}},
		{&l.addrs, ebpf.MapSpec{Name: "kubeshore_addrs", Type: ebpf.Hash, KeySize: 4, ValueSize: 1, MaxEntries: maxEntries, Flags: unix.BPF_F_NO_PREALLOC}},
		{&l.sockets, ebpf.MapSpec{Name: "kubeshore_sock", Type: ebpf.SockMap, KeySize: 4, ValueSize: 4, MaxEntries: 1}},
	} {
		if *m.field, err = ebpf.NewMap(&m.spec); err != nil {
			return nil, unavailable(err)
		}
	}
	l.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "kubeshore", Type: ebpf.SkLookup, AttachType: ebpf.AttachSkLookup, License: "Apache-2.0",
		Instructions: l.instructions(),
	})
	if err != nil {
		return nil, unavailable(err)
	}
	if err := l.addrs.Put(socketAddr.As4(), []byte{1}); err != nil {
		return nil, unavailable(err)
	}
	if l.socket, err = l.newSocket(ctx); err != nil {
		return nil, err
	}
	namespace, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer namespace.Close()
	if l.link, err = link.AttachNetNs(int(namespace.Fd()), l.program); err != nil {
		return nil, unavailable(err)
	}
	return l, nil
}

// unavailable returns an error that states why sk_lookup isn't available.
func unavailable(err error) error {
	switch {
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("this kernel doesn't support sk_lookup: %w", err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return errors.New("sk_lookup needs CAP_BPF and CAP_NET_ADMIN, or root")
	}
	return fmt.Errorf("sk_lookup: %w", err)
}

// Offsets in the program's context (struct bpf_sk_lookup, linux/bpf.h).
const (
	ctxFamily    = 8
	ctxProtocol  = 12
	ctxLocalIP4  = 40 // in network byte order
	ctxLocalPort = 60 // in host byte order
)

// The program's return values.
const (
	skDrop = 0
	skPass = 1
)

// instructions returns the program. It assigns a connection to the shared socket
// if its port is in the map, refuses it if only its address is, and otherwise
// passes it on to the usual lookup. If no process has the socket open any more,
// the ports in the map refuse connections too.
func (l *Lookup) instructions() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R2, asm.R6, ctxFamily, asm.Word),
		asm.JNE.Imm(asm.R2, unix.AF_INET, "pass"),
		asm.LoadMem(asm.R2, asm.R6, ctxProtocol, asm.Word),
		asm.JNE.Imm(asm.R2, unix.IPPROTO_TCP, "pass"),
		// The key on the stack: the address, followed by the port.
		asm.LoadMem(asm.R2, asm.R6, ctxLocalIP4, asm.Word),
		asm.StoreMem(asm.RFP, -8, asm.R2, asm.Word),
		asm.LoadMem(asm.R2, asm.R6, ctxLocalPort, asm.Word),
		asm.StoreMem(asm.RFP, -4, asm.R2, asm.Word),
		asm.LoadMapPtr(asm.R1, l.ports.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -8),
		asm.FnMapLookupElem.Call(),
		asm.JNE.Imm(asm.R0, 0, "assign"),
		asm.LoadMapPtr(asm.R1, l.addrs.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -8),
		asm.FnMapLookupElem.Call(),
		asm.JNE.Imm(asm.R0, 0, "drop"),

		asm.Mov.Imm(asm.R0, skPass).WithSymbol("pass"),
		asm.Return(),

		asm.StoreImm(asm.RFP, -8, 0, asm.Word).WithSymbol("assign"),
		asm.LoadMapPtr(asm.R1, l.sockets.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -8),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "drop"),
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnSkAssign.Call(),
		asm.Mov.Reg(asm.R8, asm.R0),
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.FnSkRelease.Call(),
		asm.JEq.Imm(asm.R8, 0, "pass"),

		asm.Mov.Imm(asm.R0, skDrop).WithSymbol("drop"),
		asm.Return(),
	}
}

// How implements [Taker].
func (*Lookup) How() string { return "one socket for all ports (sk_lookup)" }

// Take implements [Taker]. A caller without a socket gets the shared one, or a
// new one if an earlier call has returned that.
func (l *Lookup) Take(ctx context.Context, want, existing []netip.AddrPort) (sockets []Socket, portErrors map[netip.AddrPort]error, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wanted := make(map[netip.AddrPort]bool, len(want))
	portErrors = make(map[netip.AddrPort]error)
	for _, at := range want {
		if !at.Addr().Is4() {
			portErrors[at] = fmt.Errorf("%v is not an IPv4 address", at.Addr())
			continue
		}
		wanted[at] = true
	}
	if len(wanted) > maxEntries {
		return nil, nil, fmt.Errorf("%d ports exceed the limit of %d", len(wanted), maxEntries)
	}
	if !slices.Contains(existing, netip.AddrPort{}) {
		if l.socket == nil {
			if l.socket, err = l.newSocket(ctx); err != nil {
				return nil, nil, err
			}
		}
		sockets, l.socket = []Socket{*l.socket}, nil
	}
	return sockets, portErrors, l.updateLocked(wanted)
}

// updateLocked changes the maps so that they have the wanted ports. After a
// failure, the next call repeats all changes that may be missing. l.mu must be held.
func (l *Lookup) updateLocked(wanted map[netip.AddrPort]bool) error {
	present := l.loaded
	if !l.exact {
		present = nil
	}
	removed, added := difference(l.loaded, wanted), difference(wanted, present)
	removedAddrs, addedAddrs := difference(addrsOf(l.loaded), addrsOf(wanted)), difference(addrsOf(wanted), addrsOf(present))
	maps.Copy(l.loaded, wanted) // some may be in the maps even after a failure
	// An address is in its map before the first of its ports, and until after the last.
	err := errors.Join(
		deleteKeys(l.ports, portKeys(removed)), deleteKeys(l.addrs, addrKeys(removedAddrs)),
		putKeys(l.addrs, addrKeys(addedAddrs)), putKeys(l.ports, portKeys(added)),
	)
	l.exact = err == nil
	if l.exact {
		l.loaded = wanted
	}
	return err
}

// difference returns the elements of a that are not in b.
func difference[K comparable](a, b map[K]bool) []K {
	var keys []K
	for key := range a {
		if !b[key] {
			keys = append(keys, key)
		}
	}
	return keys
}

// addrsOf returns the addresses of ports.
func addrsOf(ports map[netip.AddrPort]bool) map[netip.Addr]bool {
	addrs := make(map[netip.Addr]bool, len(ports))
	for at := range ports {
		addrs[at.Addr()] = true
	}
	return addrs
}

func putKeys[K any](m *ebpf.Map, keys []K) error {
	if len(keys) == 0 {
		return nil
	}
	_, err := m.BatchUpdate(keys, make([]uint8, len(keys)), nil)
	return err
}

func deleteKeys[K any](m *ebpf.Map, keys []K) error {
	for _, key := range keys {
		if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
	}
	return nil
}

func portKeys(ports []netip.AddrPort) []portKey {
	keys := make([]portKey, len(ports))
	for i, at := range ports {
		keys[i] = portKey{Addr: at.Addr().As4(), Port: uint32(at.Port())}
	}
	return keys
}

// addrKeys returns the keys of addresses, except socketAddr, which is always in the map.
func addrKeys(addrs []netip.Addr) [][4]byte {
	var keys [][4]byte
	for _, addr := range addrs {
		if addr != socketAddr {
			keys = append(keys, addr.As4())
		}
	}
	return keys
}

// newSocket opens the shared socket and puts it into its map, where it remains
// until every process has closed it.
func (l *Lookup) newSocket(ctx context.Context) (*Socket, error) {
	var listener *net.TCPListener
	err := error(unix.EADDRINUSE)
	for i := 0; i < len(socketPorts) && err != nil; i++ {
		listener, err = listenTCP(ctx, netip.AddrPortFrom(socketAddr, socketPorts[i]))
	}
	if err != nil {
		return nil, err
	}
	if err := l.putSocket(listener); err != nil {
		return nil, errors.Join(fmt.Errorf("socket for sk_lookup: %w", err), listener.Close())
	}
	return &Socket{TCPListener: listener}, nil
}

func (l *Lookup) putSocket(listener *net.TCPListener) error {
	raw, err := listener.SyscallConn()
	if err != nil {
		return err
	}
	var putErr error
	err = raw.Control(func(fd uintptr) { putErr = l.sockets.Put(uint32(0), uint32(fd)) })
	return errors.Join(putErr, err)
}

// Close implements [Taker].
func (l *Lookup) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	if l.link != nil {
		errs = append(errs, l.link.Close())
	}
	if l.socket != nil { // no call of Take has returned it
		errs = append(errs, l.socket.Close())
		l.socket = nil
	}
	return errors.Join(append(errs, l.program.Close(), l.ports.Close(), l.addrs.Close(), l.sockets.Close())...)
}
