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

	"github.com/kubeshore/kubeshore/internal/dnsname"
)

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
// Each line of a block says whose it is. So of a block that is damaged all that is left
// is known, and what others have put between its lines is theirs, and stays.
func Rewrite(prev []byte, owner string, table map[netip.Addr][]string) (next []byte, changed bool, refused map[string]error, err error) {
	old := takeOut(prev, owner)
	text, refused, err := render(table, owner, old.rest, 0)
	if err != nil {
		return prev, false, nil, err
	}
	switch {
	case text == "":
		next = old.without()
	case text == old.text && old.whole:
		next = prev
	case old.found:
		next = slices.Concat(old.rest[:old.at], wrap(text, owner, old.eol, old.unended), old.rest[old.at:])
	default:
		next = appendBlock(prev, owner, text)
	}
	return next, !bytes.Equal(next, prev), refused, nil
}

// block is a file without an owner's lines, and what is to be known of those.
type block struct {
	found   bool
	whole   bool   // there is one of each of its outer lines, and nothing is between them but its own
	text    string // the lines between the outer ones, as render has them
	rest    []byte
	at      int    // where in rest they stood
	eol     string // how they end
	unended string // the noEnd line, if there is one
}

// takeOut finds the lines of an owner.
func takeOut(content []byte, owner string) block {
	lines := bytes.SplitAfter(content, []byte("\n"))
	b := block{eol: eolOf(content)}
	var text strings.Builder
	begins, ends, parts := 0, 0, 0
	ours := own(lines, owner)
	for i, line := range lines {
		if !ours[i] {
			b.rest = append(b.rest, line...)
			continue
		}
		if i == 0 || !ours[i-1] {
			parts++
		}
		if !b.found {
			b.found, b.at = true, len(b.rest)
		}
		switch said := bare(line); {
		case said == beginMarker(owner):
			begins++
			b.eol = cmp.Or(string(line[len(said):]), b.eol)
		case said == endMarker(owner):
			ends++
		case strings.HasPrefix(said, noEnd):
			b.unended = said
		case said != "":
			text.WriteString(said + "\n")
		}
	}
	b.text, b.whole = text.String(), parts == 1 && begins == 1 && ends == 1
	return b
}

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

// without returns the file as it was before the block. Where another block follows, that
// a line before had no end is from now on that one's to say.
func (b block) without() []byte {
	before := bytes.TrimSuffix(b.rest[:b.at], []byte(b.eol))
	if b.unended == "" || len(before) == b.at || b.unended != unendedLine(before) {
		return b.rest
	}
	if b.at == len(b.rest) {
		return before
	}
	after := b.rest[b.at:]
	next, _, _ := bytes.Cut(after, []byte("\n"))
	first := len(next) + 1
	if owner := ownerOf(bare(next)); owner == "" || bare(next) != beginMarker(owner) || bytes.HasPrefix(after[first:], []byte(noEnd)) {
		return b.rest
	}
	return slices.Concat(b.rest[:b.at], after[:first], []byte(b.unended+b.eol), after[first:])
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

// maxOnLine is how many names a line has at most where the system reads any number:
// musl reads lines of a thousand bytes.
const maxOnLine = 16

// render returns the block's lines, ended by \n; empty if no name is left
// beside those refused. A line has perLine names at most; 0: as many as this system
// reads, which txeh knows: nine on Windows.
func render(table map[netip.Addr][]string, owner string, users []byte, perLine int) (text string, refused map[string]error, err error) {
	theirs, err := namesOf(users)
	if err != nil {
		return "", nil, err
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
		// A few at a time: txeh looks through all of them for each one.
		for part := range slices.Chunk(names, maxOnLine) {
			var empty string
			entry, err := txeh.NewHosts(&txeh.HostsConfig{RawText: &empty, MaxHostsPerLine: perLine})
			if err != nil {
				return "", nil, err
			}
			entry.AddHostsWithComment(addr.String(), part, tag(owner))
			b.WriteString(entry.RenderHostsFile())
		}
	}
	return b.String(), refused, nil
}

// namesOf returns the names that the lines of a hosts file have, with their addresses.
func namesOf(content []byte) (map[string]string, error) {
	lines, err := txeh.ParseHostsFromString(string(content))
	if err != nil {
		return nil, err
	}
	names := make(map[string]string)
	for _, line := range lines {
		if _, err := netip.ParseAddr(strings.TrimPrefix(line.Address, "\ufeff")); err != nil {
			continue // it says nothing to anybody
		}
		for _, name := range line.Hostnames {
			names[strings.TrimSuffix(name, ".")] = line.Address
		}
	}
	return names, nil
}

// checkName says why a name can't be ours. Names come from another machine: a
// line break in one would be a line of its own.
func checkName(name string, theirs map[string]string) error {
	if !dnsname.IsName(name) {
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
