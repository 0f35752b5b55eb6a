// Package hosts keeps a block of names in the hosts file (hosts(5)). Every byte
// outside the block is the user's and is kept.
package hosts

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/txn2/txeh"
)

// The lines around the block.
const (
	beginMarker = "# BEGIN kubeshore: written by kubeshore and taken back when it ends; do not edit"
	endMarker   = "# END kubeshore"
	// noEnd follows beginMarker where the line before the block had no end,
	// and is followed by that line's checksum.
	noEnd = "# the line before had no line end, and has none again when this block goes: "
)

// Rewrite returns the hosts file prev with table as its block, or without a
// block if table is empty. Everything outside the
// block stays byte for byte: what Rewrite made of a file without a block, it
// makes back with the empty table. changed tells whether next differs from prev.
//
// Names that can't be had are left out, and refused says why: those that are
// no valid DNS names, localhost, and those that the user's own lines have. An
// error means that prev has a damaged block; nothing was rewritten then.
//
// A new block comes last. Its lines end as the file's first line does. Where
// the last line of the file lacks its end it gets one, the block says so, and
// it is taken away with the block, unless something came after it.
func Rewrite(prev []byte, table map[netip.Addr][]string) (next []byte, changed bool, refused map[string]error, err error) {
	old, err := findBlock(prev)
	if err != nil {
		return prev, false, nil, err
	}
	users := prev
	if old != nil {
		users = slices.Concat(prev[:old.start], prev[old.end:])
	}
	text, refused, err := render(table, users)
	if err != nil {
		return prev, false, nil, err
	}
	switch {
	case old != nil:
		next = replaceBlock(prev, *old, text)
	case text != "":
		next = appendBlock(prev, text)
	default:
		next = prev
	}
	return next, !bytes.Equal(next, prev), refused, nil
}

// block is where our lines stand: the bytes [start, end), the last line's end
// included if it has one. eol is how the first line ends; unended, the noEnd
// line if there is one.
type block struct {
	start, end int
	eol        string
	unended    string
}

// findBlock returns our block of the file, nil if it has none.
func findBlock(content []byte) (*block, error) {
	var found *block
	begin, number := -1, 0
	for offset := 0; offset < len(content); {
		number++
		line := content[offset:]
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			line = line[:i+1]
		}
		switch text := string(bytes.TrimRight(line, "\r\n")); {
		case text == beginMarker && begin >= 0, text == beginMarker && found != nil:
			return nil, fmt.Errorf("line %d: a second %q; remove the lines that kubeshore wrote by hand", number, beginMarker)
		case text == beginMarker:
			begin = offset
			found = &block{start: offset, end: -1, eol: string(line[len(text):])}
		case text == endMarker && begin < 0:
			return nil, fmt.Errorf("line %d: %q without its beginning; remove the lines that kubeshore wrote by hand", number, endMarker)
		case begin >= 0 && strings.HasPrefix(text, noEnd):
			found.unended = text
		case text == endMarker:
			found.end = offset + len(line)
			begin = -1
		}
		offset += len(line)
	}
	if begin >= 0 {
		return nil, fmt.Errorf("%q without %q after it; remove the lines that kubeshore wrote by hand", beginMarker, endMarker)
	}
	return found, nil
}

func appendBlock(prev []byte, text string) []byte {
	eol := "\n"
	if first := bytes.IndexByte(prev, '\n'); first > 0 && prev[first-1] == '\r' {
		eol = "\r\n"
	}
	if len(prev) == 0 || prev[len(prev)-1] == '\n' {
		return slices.Concat(prev, wrap(text, eol, ""))
	}
	return slices.Concat(prev, []byte(eol), wrap(text, eol, unendedLine(prev)))
}

func replaceBlock(prev []byte, old block, text string) []byte {
	before, after := prev[:old.start], prev[old.end:]
	if text != "" {
		return slices.Concat(before, wrap(text, old.eol, old.unended), after)
	}
	bare := bytes.TrimSuffix(before, []byte(old.eol))
	if len(after) == 0 && old.unended != "" && old.unended == unendedLine(bare) {
		before = bare
	}
	return slices.Concat(before, after)
}

// unendedLine is the line of a block that says that the content before it
// ended without a line end.
func unendedLine(content []byte) string {
	last := content[bytes.LastIndexByte(content, '\n')+1:]
	return fmt.Sprintf("%s%08x", noEnd, crc32.ChecksumIEEE(last))
}

// wrap puts the markers around the block's text, and the noEnd line if there
// is one.
func wrap(text, eol, unended string) []byte {
	begin := beginMarker + "\n"
	if unended != "" {
		begin += unended + "\n"
	}
	return []byte(strings.ReplaceAll(begin+text+endMarker+"\n", "\n", eol))
}

// render returns the block's lines, ended by \n; empty if no name is left
// beside those refused. txeh knows how many names a line may have on this
// system.
func render(table map[netip.Addr][]string, users []byte) (text string, refused map[string]error, err error) {
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
		entry, err := txeh.NewHosts(&txeh.HostsConfig{RawText: &empty})
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
		return fmt.Errorf("the hosts file has the name %s already, for %s", name, addr)
	}
	return nil
}

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
