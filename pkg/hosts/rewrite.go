// Package hosts keeps a block of names in the hosts file (hosts(5)). Every byte
// outside the block is the user's and is kept.
package hosts

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/crc32"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/txn2/txeh"
)

// The lines around a block have the name of its owner in them.
const (
	beginPrefix = "# BEGIN kubeshore "
	beginSuffix = ": written by kubeshore and taken back when it ends; do not edit"
	endPrefix   = "# END kubeshore "
	// noEnd follows the first line where the line before the block had no end,
	// and is followed by that line's checksum.
	noEnd = "# the line before had no line end, and has none again when this block goes: "
)

func beginMarker(owner string) string { return beginPrefix + owner + beginSuffix }

func endMarker(owner string) string { return endPrefix + owner }

// Rewrite returns the hosts file prev with table as the block of an owner, or
// without such a block if table is empty. Everything outside the block stays byte
// for byte, other owners' blocks included: what Rewrite made of a file without a
// block, it makes back with the empty table. changed tells whether next differs
// from prev.
//
// Names that can't be had are left out, and refused says why: those that are
// no valid DNS names, localhost, and those that other lines have.
//
// A new block comes last. Its lines end as the file's first line does. Where
// the last line of the file lacks its end it gets one, the block says so, and
// it is taken away with the block, unless something came after it.
//
// If one of the block's outer lines is lost, those lines next to the other one
// that look like the block's are taken for its own. Lines inside of the block that
// don't look so are another's, and stay.
func Rewrite(prev []byte, owner string, table map[netip.Addr][]string) (next []byte, changed bool, refused map[string]error, err error) {
	old := takeOut(prev, owner)
	text, refused, err := render(table, old.rest, 0)
	if err != nil {
		return prev, false, nil, err
	}
	switch {
	case text != "" && old.found:
		next = slices.Concat(old.rest[:old.at], wrap(text, owner, old.eol, old.unended), old.rest[old.at:])
	case text != "":
		next = appendBlock(prev, owner, text)
	case old.found:
		next = old.without()
	default:
		next = prev
	}
	return next, !bytes.Equal(next, prev), refused, nil
}

// block is a file without an owner's lines, and what is to be known of those.
type block struct {
	found   bool
	rest    []byte
	at      int    // where in rest they stood
	eol     string // how they end
	unended string // the noEnd line, if there is one
}

// takeOut finds the lines of an owner.
func takeOut(content []byte, owner string) block {
	lines := bytes.SplitAfter(content, []byte("\n"))
	b := block{eol: eolOf(content)}
	offset := 0
	for i, ours := range own(lines, owner) {
		if !ours {
			b.rest = append(b.rest, lines[i]...)
			offset += len(lines[i])
			continue
		}
		text := string(bytes.TrimRight(lines[i], "\r\n"))
		switch {
		case strings.HasPrefix(text, noEnd):
			b.unended = text
		case text == beginMarker(owner) && !b.found:
			b.eol = cmp.Or(string(lines[i][len(text):]), b.eol)
		}
		if !b.found {
			b.found, b.at = true, offset
		}
	}
	return b
}

// own tells which lines are an owner's.
func own(lines [][]byte, owner string) []bool {
	ours := make([]bool, len(lines))
	text := func(i int) string { return string(bytes.TrimRight(lines[i], "\r\n")) }
	for i := 0; i < len(lines); i++ {
		switch text(i) {
		case beginMarker(owner):
			ours[i] = true
			last := i + 1
			for last < len(lines) && !isMarker(text(last)) {
				last++
			}
			whole := last < len(lines) && text(last) == endMarker(owner)
			for j := i + 1; j < last && (whole || isEntry(text(j), whole)); j++ {
				ours[j] = isEntry(text(j), whole)
			}
			if whole {
				ours[last] = true
				i = last
			}
		case endMarker(owner):
			ours[i] = true
			for j := i - 1; j >= 0 && !ours[j] && isEntry(text(j), false); j-- {
				ours[j] = true
			}
		}
	}
	return ours
}

func isMarker(line string) bool {
	return strings.HasPrefix(line, beginPrefix) || strings.HasPrefix(line, endPrefix)
}

// isEntry tells whether a line looks like one of a block: a loopback address and
// its names. Outside of a whole block it must not be one of the system's own
// addresses, where services on this machine are too, unless it is written as we do
// and has the name of a service.
func isEntry(line string, whole bool) bool {
	if strings.HasPrefix(line, noEnd) {
		return true
	}
	fields := strings.Fields(line)
	if len(fields) < 2 || strings.Contains(line, "#") {
		return false
	}
	addr, err := netip.ParseAddr(fields[0])
	if err != nil || !addr.Is4() || !addr.IsLoopback() {
		return false
	}
	return whole || addr.As4()[1] != 0 ||
		strings.HasSuffix(fields[1], serviceSuffix) && line == fmt.Sprintf("%-16s %s", addr, strings.Join(fields[1:], " "))
}

// serviceSuffix is what the first name of a service ends with.
const serviceSuffix = ".svc.cluster.local"

// eolOf returns how the first line ends.
func eolOf(content []byte) string {
	if first := bytes.IndexByte(content, '\n'); first > 0 && content[first-1] == '\r' {
		return "\r\n"
	}
	return "\n"
}

func appendBlock(prev []byte, owner, text string) []byte {
	eol := eolOf(prev)
	if len(prev) == 0 || prev[len(prev)-1] == '\n' {
		return slices.Concat(prev, wrap(text, owner, eol, ""))
	}
	return slices.Concat(prev, []byte(eol), wrap(text, owner, eol, unendedLine(prev)))
}

// without returns the file as it was before the block.
func (b block) without() []byte {
	bare := bytes.TrimSuffix(b.rest, []byte(b.eol))
	if b.at == len(b.rest) && b.unended != "" && b.unended == unendedLine(bare) {
		return bare
	}
	return b.rest
}

// unendedLine is the line of a block that says that the content before it
// ended without a line end.
func unendedLine(content []byte) string {
	last := content[bytes.LastIndexByte(content, '\n')+1:]
	return fmt.Sprintf("%s%08x", noEnd, crc32.ChecksumIEEE(last))
}

// wrap puts the outer lines around the block's text, and the noEnd line if there
// is one.
func wrap(text, owner, eol, unended string) []byte {
	begin := beginMarker(owner) + "\n"
	if unended != "" {
		begin += unended + "\n"
	}
	return []byte(strings.ReplaceAll(begin+text+endMarker(owner)+"\n", "\n", eol))
}

// owners returns whose blocks a file has, or remains of one.
func owners(content []byte) []string {
	var found []string
	for line := range bytes.Lines(content) {
		text := string(bytes.TrimRight(line, "\r\n"))
		owner, begins := strings.CutPrefix(strings.TrimSuffix(text, beginSuffix), beginPrefix)
		if !begins {
			var ends bool
			if owner, ends = strings.CutPrefix(text, endPrefix); !ends {
				continue
			}
		}
		if isOwner(owner) && !slices.Contains(found, owner) {
			found = append(found, owner)
		}
	}
	return found
}

// isOwner tells whether a text is the name of an owner.
func isOwner(text string) bool {
	return text != "" && len(text) <= 63 && strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// render returns the block's lines, ended by \n; empty if no name is left
// beside those refused. A line has perLine names at most; 0: as many as this system
// reads, which txeh knows: nine on Windows, and any number elsewhere.
func render(table map[netip.Addr][]string, users []byte, perLine int) (text string, refused map[string]error, err error) {
	lines, err := txeh.ParseHostsFromString(string(users))
	if err != nil {
		return "", nil, err
	}
	theirs := make(map[string]string)
	for _, line := range lines {
		for _, name := range line.Hostnames {
			theirs[strings.TrimSuffix(name, ".")] = line.Address
		}
	}
	refused = make(map[string]error)
	var b strings.Builder
	for _, addr := range slices.SortedFunc(maps.Keys(table), netip.Addr.Compare) {
		var names []string
		for _, name := range table[addr] {
			if err := checkName(name, theirs); err != nil {
				refused[name] = err
				continue
			}
			names = append(names, name)
		}
		if len(names) == 0 {
			continue
		}
		// One address at a time: txeh looks through all lines for each name.
		var empty string
		entry, err := txeh.NewHosts(&txeh.HostsConfig{RawText: &empty, MaxHostsPerLine: perLine})
		if err != nil {
			return "", nil, err
		}
		entry.AddHosts(addr.String(), names)
		b.WriteString(entry.RenderHostsFile())
	}
	return b.String(), refused, nil
}

// checkName says why a name can't be ours. Names come from another machine: a
// line break in one would be a line of its own.
func checkName(name string, theirs map[string]string) error {
	if !validName(name) {
		return fmt.Errorf("%q is not a valid DNS name", name)
	}
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return fmt.Errorf("the name %s belongs to this machine (RFC 6761)", name)
	}
	if addr, ok := theirs[name]; ok {
		return &TakenError{name, addr}
	}
	return nil
}

// TakenError is why a name is refused that another line of the hosts file has.
type TakenError struct{ Name, Address string }

func (e *TakenError) Error() string {
	return fmt.Sprintf("the hosts file has the name %s already, for %s", e.Name, e.Address)
}

// Taken tells that there is nothing wrong with the name itself.
func (*TakenError) Taken() bool { return true }

// validName tells whether name is a host name in the sense of RFC 1123, in
// lower case.
func validName(name string) bool {
	if len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "-") != label ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}
