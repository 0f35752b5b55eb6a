package hosts

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/txn2/txeh"

	"github.com/kubeshore/kubeshore/internal/netaddr"
)

// The limits of a line. Windows ignores names past the ninth. musl reads the first 511
// bytes of a line, and macOS ignores names past the 256th.
const (
	maxNamesPerLine = 9
	maxLineBytes    = 255
)

// txehAddressWidth is the width to which txeh pads an address.
const txehAddressWidth = 16

// renderLines returns the lines of a block, each with a final \n, or "" if all names are
// refused. others are the parts of the hosts file without the block.
func renderLines(table map[netip.Addr][]string, owner string, others ...[]byte) (text string, refused map[string]error, err error) {
	names := allNames(table)
	taken := make(map[string]TakenError)
	for _, part := range others {
		found, err := takenNames(part, names)
		if err != nil {
			return "", nil, err
		}
		maps.Copy(taken, found)
	}
	refused = make(map[string]error)
	var b strings.Builder
	for _, addr := range slices.SortedFunc(maps.Keys(table), netip.Addr.Compare) {
		var names []string
		for _, name := range table[addr] {
			err := checkName(name)
			if by, ok := taken[name]; ok && err == nil {
				err = &by
			}
			if err != nil {
				refused[name] = err
				continue
			}
			names = append(names, name)
		}
		for _, line := range splitLines(addr, addAbsolute(names), owner) {
			var empty string
			lines, err := txeh.NewHosts(&txeh.HostsConfig{RawText: &empty, MaxHostsPerLine: -1})
			if err != nil {
				return "", nil, err
			}
			lines.AddHostsWithComment(addr.String(), line, lineTag(owner))
			b.WriteString(lines.RenderHostsFile())
		}
	}
	return b.String(), refused, nil
}

// isServiceName reports whether a name is a Service's or a pod's canonical one.
func isServiceName(name string) bool {
	return strings.HasSuffix(strings.TrimSuffix(name, "."), serviceSuffix)
}

// addAbsolute adds each canonical name of a Service or pod again with a trailing dot,
// which libc compares like any other byte, behind the shorter forms that follow it.
func addAbsolute(names []string) []string {
	all := make([]string, 0, len(names)+1)
	for i := 0; i < len(names); {
		canonical := names[i]
		all = append(all, canonical)
		i++
		if !isServiceName(canonical) {
			continue
		}
		for ; i < len(names) && strings.HasPrefix(canonical, names[i]+"."); i++ {
			all = append(all, names[i])
		}
		all = append(all, canonical+".")
	}
	return all
}

// splitLines splits the names of an address into lines within the limits, with the
// absolute names last in each line. A name's canonical name is the first one of its line,
// so no name is repeated, and each Service on 127.0.0.1 starts a new line.
func splitLines(addr netip.Addr, names []string, owner string) (lines [][]string) {
	overhead := max(len(addr.String()), txehAddressWidth) + len(" # "+lineTag(owner))
	size := 0
	for _, name := range names {
		size += len(name) + 1
		newHost := addr == netaddr.Localhost && isServiceName(name) && !isAbsolute(name)
		if last := len(lines) - 1; last >= 0 && !newHost && len(lines[last]) < maxNamesPerLine && size <= maxLineBytes {
			lines[last] = append(lines[last], name)
			continue
		}
		lines = append(lines, []string{name})
		size = overhead + 1 + len(name)
	}
	for _, line := range lines {
		slices.SortStableFunc(line, func(a, b string) int {
			switch absoluteA, absoluteB := isAbsolute(a), isAbsolute(b); {
			case absoluteA == absoluteB:
				return 0
			case absoluteA:
				return 1
			}
			return -1
		})
	}
	return lines
}

// isAbsolute reports whether a name has a trailing dot.
func isAbsolute(name string) bool { return strings.HasSuffix(name, ".") }
