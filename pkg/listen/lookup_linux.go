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

// maxTaken is how many addresses, and how many of their ports, a Lookup takes.
const maxTaken = 1 << 16

// home is where the one socket is bound. Nobody reaches it there: like each
// address of ours it refuses what is not taken.
var home = netip.AddrFrom4([4]byte{127, 255, 255, 254})

// homePorts are tried in turn for the one socket. While it has a port, no program
// can have that on all addresses: so these are ports that nobody listens on, and
// only where several users have them all is it one of the system's choice.
var homePorts = []uint16{1, 2, 3, 4, 5, 6, 0}

// Lookup has one socket for all addresses and ports: a program in the kernel, at
// the hook sk_lookup, decides for each new connection of this network namespace
// (Linux 5.9, Documentation/bpf/prog_sk_lookup.rst). No port is bound, so nothing
// is in the way of other programs; they may have the same ports on all addresses.
// A port of an address of ours that isn't taken refuses, and doesn't fall through
// to those. The kernel takes the program away when the process ends.
type Lookup struct {
	ports   *ebpf.Map // keys are those that are taken
	addrs   *ebpf.Map // keys are the addresses of ours
	sockets *ebpf.Map // the socket, as long as somebody has it open
	program *ebpf.Program
	link    link.Link

	mu     sync.Mutex
	taken  map[netip.AddrPort]bool // those that are in the maps, or may be
	sure   bool                    // they are
	socket *Socket                 // nil once handed over
}

// portKey is the key of the map of ports, as the kernel's program makes it.
type portKey struct {
	Addr [4]byte
	Port uint32
}

// newLookup loads and attaches the program. Its error says in words what is
// missing for that.
func newLookup(ctx context.Context) (taker Taker, err error) {
	l := &Lookup{taken: make(map[netip.AddrPort]bool)}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if err := rlimit.RemoveMemlock(); err != nil { // before Linux 5.11 maps count against it
		return nil, unavailable(err)
	}
	for _, spec := range []struct {
		at   **ebpf.Map
		spec ebpf.MapSpec
	}{
		{&l.ports, ebpf.MapSpec{Name: "kubeshore_ports", Type: ebpf.Hash, KeySize: 8, ValueSize: 1, MaxEntries: maxTaken, Flags: unix.BPF_F_NO_PREALLOC}},
		{&l.addrs, ebpf.MapSpec{Name: "kubeshore_addrs", Type: ebpf.Hash, KeySize: 4, ValueSize: 1, MaxEntries: maxTaken, Flags: unix.BPF_F_NO_PREALLOC}},
		{&l.sockets, ebpf.MapSpec{Name: "kubeshore_sock", Type: ebpf.SockMap, KeySize: 4, ValueSize: 4, MaxEntries: 1}},
	} {
		if *spec.at, err = ebpf.NewMap(&spec.spec); err != nil {
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
	if err := l.addrs.Put(home.As4(), []byte{1}); err != nil {
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

// unavailable says what is missing.
func unavailable(err error) error {
	switch {
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("this kernel has no sk_lookup: %w", err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return errors.New("no right to sk_lookup: it takes CAP_BPF and CAP_NET_ADMIN, or root")
	}
	return fmt.Errorf("sk_lookup: %w", err)
}

// Offsets in the program's context (struct bpf_sk_lookup, linux/bpf.h).
const (
	ctxFamily    = 8
	ctxProtocol  = 12
	ctxLocalIP4  = 40 // in network order
	ctxLocalPort = 60 // in host order
)

// What the program answers.
const (
	skDrop = 0
	skPass = 1
)

// instructions is the program: a connection to a port that is taken goes to the
// socket, one to another port of our addresses is refused, and all others are
// none of ours. Where the socket is gone, as its owner is, all of ours refuse.
func (l *Lookup) instructions() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R2, asm.R6, ctxFamily, asm.Word),
		asm.JNE.Imm(asm.R2, unix.AF_INET, "pass"),
		asm.LoadMem(asm.R2, asm.R6, ctxProtocol, asm.Word),
		asm.JNE.Imm(asm.R2, unix.IPPROTO_TCP, "pass"),
		// The key: the address, and the port behind it.
		asm.LoadMem(asm.R2, asm.R6, ctxLocalIP4, asm.Word),
		asm.StoreMem(asm.RFP, -8, asm.R2, asm.Word),
		asm.LoadMem(asm.R2, asm.R6, ctxLocalPort, asm.Word),
		asm.StoreMem(asm.RFP, -4, asm.R2, asm.Word),
		asm.LoadMapPtr(asm.R1, l.ports.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -8),
		asm.FnMapLookupElem.Call(),
		asm.JNE.Imm(asm.R0, 0, "taken"),
		asm.LoadMapPtr(asm.R1, l.addrs.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -8),
		asm.FnMapLookupElem.Call(),
		asm.JNE.Imm(asm.R0, 0, "drop"),

		asm.Mov.Imm(asm.R0, skPass).WithSymbol("pass"),
		asm.Return(),

		asm.StoreImm(asm.RFP, -8, 0, asm.Word).WithSymbol("taken"),
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

// How is that of a Taker.
func (*Lookup) How() string { return "one socket for all ports (sk_lookup)" }

// Take is that of a Taker. A caller that has no socket is given the one, or, as that
// may be lost, another one in place of it.
func (l *Lookup) Take(ctx context.Context, want, have []netip.AddrPort) (taken []Socket, faults map[netip.AddrPort]error, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wanted := make(map[netip.AddrPort]bool, len(want))
	faults = make(map[netip.AddrPort]error)
	for _, at := range want {
		if !at.Addr().Is4() {
			faults[at] = fmt.Errorf("%v is no IPv4 address", at.Addr())
			continue
		}
		wanted[at] = true
	}
	if len(wanted) > maxTaken {
		return nil, nil, fmt.Errorf("%d ports are more than the %d that there is room for", len(wanted), maxTaken)
	}
	if !slices.Contains(have, netip.AddrPort{}) {
		if l.socket == nil {
			if l.socket, err = l.newSocket(ctx); err != nil {
				return nil, nil, err
			}
		}
		taken, l.socket = []Socket{*l.socket}, nil
	}
	was := l.taken
	if !l.sure {
		was = nil
	}
	gone, come := missing(l.taken, wanted), missing(wanted, was)
	goneAddrs, comeAddrs := missing(addrsOf(l.taken), addrsOf(wanted)), missing(addrsOf(wanted), addrsOf(was))
	maps.Copy(l.taken, wanted) // what may be in the maps from here on
	// An address is ours before the first of its ports is, and after the last.
	err = errors.Join(
		remove(l.ports, portKeys(gone)), remove(l.addrs, addrKeys(goneAddrs)),
		add(l.addrs, addrKeys(comeAddrs)), add(l.ports, portKeys(come)),
	)
	if l.sure = err == nil; l.sure {
		l.taken = wanted
	}
	return taken, faults, err
}

// missing returns those of one set that aren't in the other.
func missing[K comparable](of, in map[K]bool) []K {
	var keys []K
	for key := range of {
		if !in[key] {
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

func add[K any](to *ebpf.Map, keys []K) error {
	if len(keys) == 0 {
		return nil
	}
	_, err := to.BatchUpdate(keys, make([]uint8, len(keys)), nil)
	return err
}

func remove[K any](from *ebpf.Map, keys []K) error {
	for _, key := range keys {
		if err := from.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
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

// addrKeys leaves out the address of the socket, which is always ours.
func addrKeys(addrs []netip.Addr) [][4]byte {
	var keys [][4]byte
	for _, addr := range addrs {
		if addr != home {
			keys = append(keys, addr.As4())
		}
	}
	return keys
}

// newSocket makes the socket that the program hands connections to. It is in the
// map as long as it is open, by whomever.
func (l *Lookup) newSocket(ctx context.Context) (*Socket, error) {
	var listener *net.TCPListener
	err := error(unix.EADDRINUSE)
	for i := 0; i < len(homePorts) && err != nil; i++ {
		listener, err = listenTCP(ctx, netip.AddrPortFrom(home, homePorts[i]))
	}
	if err != nil {
		return nil, err
	}
	raw, err := listener.SyscallConn()
	if err == nil {
		e := raw.Control(func(fd uintptr) { err = l.sockets.Put(uint32(0), uint32(fd)) })
		err = errors.Join(err, e)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("socket for sk_lookup: %w", err), listener.Close())
	}
	return &Socket{TCPListener: listener}, nil
}

// Close is that of a Taker.
func (l *Lookup) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	if l.link != nil {
		errs = append(errs, l.link.Close())
	}
	if l.socket != nil { // nobody has ever asked for it
		errs = append(errs, l.socket.Close())
		l.socket = nil
	}
	return errors.Join(append(errs, l.program.Close(), l.ports.Close(), l.addrs.Close(), l.sockets.Close())...)
}
