package listen

import (
	"fmt"
	"net/netip"

	gopsnet "github.com/shirou/gopsutil/v4/net"
	"github.com/shirou/gopsutil/v4/process"

	"github.com/kubeshore/kubeshore/internal/printable"
)

// processFinder finds the process that listens at an address and port. It reads
// the system's sockets only once, because that visits every process.
type processFinder struct {
	loaded  bool
	sockets []gopsnet.ConnectionStat
}

// find describes the process that listens at an address and port, or on that
// port at all addresses.
func (f *processFinder) find(at netip.AddrPort) string {
	if !f.loaded {
		f.loaded = true
		f.sockets, _ = gopsnet.Connections("tcp") // on an error the process is reported as "another program"
	}
	for _, s := range f.sockets {
		if s.Status != "LISTEN" || s.Laddr.Port != uint32(at.Port()) || s.Pid == 0 {
			continue
		}
		addr, err := netip.ParseAddr(s.Laddr.IP)
		if err != nil || addr.IsUnspecified() || addr.Unmap() == at.Addr() {
			return describeProcess(s.Pid)
		}
	}
	return "another program"
}

func describeProcess(pid int32) string {
	p, err := process.NewProcess(pid)
	if err != nil {
		return fmt.Sprintf("pid %d", pid)
	}
	name, err := p.Name()
	name = printableName(name)
	if err != nil || name == "" {
		return fmt.Sprintf("pid %d", pid)
	}
	return fmt.Sprintf("%s (pid %d)", name, pid)
}

// maxProcessName limits the length of a process's name in messages, in runes.
const maxProcessName = 32

// printableName makes the name of a process safe to print: another user may have chosen it.
func printableName(name string) string { return printable.Line(name, maxProcessName) }
