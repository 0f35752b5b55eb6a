// Package hosts maintains a block of names in the hosts file (hosts(5)). All bytes
// outside the block belong to the user and are preserved.
package hosts

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"strings"

	"github.com/kubeshore/kubeshore/internal/dnsname"
)

// Rewrite returns the hosts file prev with table as the block of an owner, or without that
// block if table is empty. Everything outside the block is preserved byte for byte,
// including the blocks of other owners. Adding a block to a file and removing it again
// restores the file. changed reports whether next differs from prev.
//
// Some names are left out, and refused has the reason for each: invalid DNS names,
// localhost, and names that other lines have.
//
// A new block is appended to the file, with the line endings of the file's first line. If
// the last line has no line ending, it gets one, and a line in the block records that. When
// the block is removed, so is that line ending, unless other lines follow the block.
//
// A file that kubeshore created has nothing but blocks; a line in one of them records that.
// It is empty, and has to be removed, when its last block is removed.
//
// Each line of a block names its owner. So the remains of a damaged block are recognized,
// and lines that others have put between them are preserved.
func Rewrite(prev []byte, owner string, table map[netip.Addr][]string) (next []byte, changed bool, refused map[string]error, err error) {
	if isUTF16(prev) {
		return prev, false, nil, errUTF16
	}
	old := splitBlock(prev, owner)
	text, refused, err := renderLines(table, owner, old.before, old.after)
	if err != nil {
		return prev, false, nil, err
	}
	switch {
	case text == "":
		next = old.without()
	case text == old.text && old.intact:
		next = prev
	case old.found:
		next = slices.Concat(old.before, renderBlock(text, owner, old.eol, old.origin), old.after)
	default:
		next = appendBlock(prev, owner, text)
	}
	return next, !bytes.Equal(next, prev), refused, nil
}

// errUTF16 means that a text editor has changed the encoding of the file.
var errUTF16 = errors.New("the file is encoded in UTF-16, which no resolver can read; save it as UTF-8 or ASCII")

// isUTF16 reports whether content starts with a byte order mark of UTF-16.
func isUTF16(content []byte) bool {
	return bytes.HasPrefix(content, []byte("\xff\xfe")) || bytes.HasPrefix(content, []byte("\xfe\xff"))
}

// lineEnding returns the line ending of the first line.
func lineEnding(content []byte) string {
	if first := bytes.IndexByte(content, '\n'); first > 0 && content[first-1] == '\r' {
		return "\r\n"
	}
	return "\n"
}

func appendBlock(prev []byte, owner, text string) []byte {
	eol := lineEnding(prev)
	if len(prev) == 0 || prev[len(prev)-1] == '\n' {
		return slices.Concat(prev, renderBlock(text, owner, eol, ""))
	}
	return slices.Concat(prev, []byte(eol), renderBlock(text, owner, eol, noEOLLine(prev)))
}

// noEOLLine returns the line of a block that records that content, which precedes the
// block, had no line ending after its last line.
func noEOLLine(content []byte) string {
	last := content[bytes.LastIndexByte(content, '\n')+1:]
	return fmt.Sprintf("%s%08x", noEOLPrefix, crc32.ChecksumIEEE(last))
}

// renderBlock returns a block with the given lines between its markers. origin is the
// block's line of isOriginLine, or "".
func renderBlock(text, owner, eol, origin string) []byte {
	begin := beginMarker(owner) + "\n"
	if origin != "" {
		begin += origin + "\n"
	}
	return []byte(strings.ReplaceAll(begin+text+endMarker(owner)+"\n", "\n", eol))
}

// checkName returns the reason why a name must not be written, if there is one. Names come
// from other machines, and a line break in one would start a new line.
func checkName(name string) error {
	if !dnsname.IsName(name) {
		return errors.New("not a valid DNS name")
	}
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return errors.New("reserved for the local machine (RFC 6761)")
	}
	return nil
}

// TakenError means that another line of the hosts file maps a name. Names with the same
// line have the same text.
type TakenError struct {
	Path    string // of the hosts file, or "" if unknown
	Address string
	Owner   string // of the line's block, or "" if the line isn't kubeshore's
}

func (e *TakenError) Error() string {
	by := ""
	if e.Owner != "" {
		by = fmt.Sprintf(" by kubeshore of user %s; if that isn't running, run sudo kubeshore clean", e.Owner)
	}
	return fmt.Sprintf("already mapped to %s in %s%s", e.Address, cmp.Or(e.Path, "the hosts file"), by)
}

// Taken returns true: the name is valid, and only unavailable.
func (*TakenError) Taken() bool { return true }
