package listen

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode"

	gopsnet "github.com/shirou/gopsutil/v4/net"
	"github.com/shirou/gopsutil/v4/process"
)

// holders finds who listens where. What it finds is looked up once, as that takes
// a look at every process.
type holders struct {
	known   bool
	sockets []gopsnet.ConnectionStat
}

// find says who listens at an address and port, or on that port of all addresses.
func (h *holders) find(at netip.AddrPort) string {
	if !h.known {
		h.known = true
		h.sockets, _ = gopsnet.Connections("tcp") // unknown: it is another program all the same
	}
	for _, s := range h.sockets {
		addr, err := netip.ParseAddr(s.Laddr.IP)
		if s.Status != "LISTEN" || s.Laddr.Port != uint32(at.Port()) || s.Pid == 0 {
			continue
		}
		if err != nil || addr.IsUnspecified() || addr.Unmap() == at.Addr() {
			return nameOf(s.Pid)
		}
	}
	return "another program"
}

func nameOf(pid int32) string {
	p, err := process.NewProcess(pid)
	if err == nil {
		if name, err := p.Name(); err == nil && shown(name) != "" {
			return fmt.Sprintf("%s (process %d)", shown(name), pid)
		}
	}
	return fmt.Sprintf("process %d", pid)
}

// maxName is how much is shown of a process's name, in runes.
const maxName = 32

// shown returns what is shown of a process's name, which may be another user's choice.
func shown(name string) string {
	runes := []rune(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, name))
	return string(runes[:min(len(runes), maxName)])
}
