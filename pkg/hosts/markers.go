package hosts

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
)

// The first and the last line of a block, the markers, name the block's owner. So does
// the comment on each line between them, so that every line is recognized wherever it is.
const (
	beginPrefix = "# BEGIN kubeshore "
	beginSuffix = ": managed by kubeshore, which removes it when it stops; do not edit"
	endPrefix   = "# END kubeshore "
	tagPrefix   = "kubeshore "
	// noEOLPrefix begins the second line of a block if the line before the block had no
	// line ending. The rest is that line's checksum.
	noEOLPrefix = "# kubeshore added a newline to the line above, and removes it with this block: "
	// createdLine is the second line of a block if kubeshore created the file.
	createdLine = "# kubeshore created this file, and removes it with this block"
)

// isOriginLine reports whether a line is the second one of a block, which records what
// else has to be undone when the block is removed.
func isOriginLine(text string) bool {
	return text == createdLine || strings.HasPrefix(text, noEOLPrefix)
}

func beginMarker(owner string) string { return beginPrefix + owner + beginSuffix }

func endMarker(owner string) string { return endPrefix + owner }

// lineTag returns the comment on each of an owner's lines.
func lineTag(owner string) string { return tagPrefix + owner }

// ownerOf returns the owner that a line names, or "" if kubeshore didn't write the line.
func ownerOf(line string) string {
	owner, ours := strings.CutPrefix(line, endPrefix)
	if rest, begins := strings.CutPrefix(line, beginPrefix); begins {
		owner, ours = strings.CutSuffix(rest, beginSuffix)
	} else if i := strings.LastIndex(line, " # "+tagPrefix); i >= 0 {
		owner, ours = line[i+len(" # "+tagPrefix):], true
	}
	if !ours || !isOwner(owner) {
		return ""
	}
	return owner
}

// owners returns the owners of the lines of a hosts file.
func owners(content []byte) []string {
	var found []string
	for line := range bytes.Lines(content) {
		if !bytes.Contains(line, []byte(tagPrefix)) {
			continue // most lines, without a copy
		}
		if owner := ownerOf(trimEOL(line)); owner != "" && !slices.Contains(found, owner) {
			found = append(found, owner)
		}
	}
	return found
}

// isOwner reports whether text is a valid owner.
func isOwner(text string) bool {
	return text != "" && len(text) <= 63 && strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// trimEOL returns a line without its line ending.
func trimEOL(line []byte) string { return string(bytes.TrimRight(line, "\r\n")) }

// ownedLines reports for each line whether it belongs to an owner. These lines do:
//
//   - lines that name the owner,
//   - empty lines between two of them, which are padding,
//   - after a write that was cut short, the remains of its last line, or of a line that
//     it had begun to overwrite.
func ownedLines(lines [][]byte, owner string) []bool {
	owned := make([]bool, len(lines))
	last := -1 // the last owned line, or -1 if another's line follows it
	claimTo := func(to int) {
		for j := last + 1; last >= 0 && j <= to; j++ {
			owned[j] = true
		}
		last = to
	}
	for i, line := range lines {
		text := trimEOL(line)
		hasNoEOL := len(line) == len(text) // only the last line
		open := last >= 0 && trimEOL(lines[last]) != endMarker(owner)
		switch {
		case ownerOf(text) == owner:
			owned[i] = true
			claimTo(i)
		case open && last == i-1 && isOriginLine(text) && trimEOL(lines[last]) == beginMarker(owner):
			claimTo(i)
		case open && hasNoEOL && allEmptyLines(lines[last+1:i]) && (text == "" || isTruncatedLine(text, owner)):
			claimTo(i)
		case hasNoEOL && len(text) > len("# BEGIN ") && strings.HasPrefix(beginMarker(owner), text):
			owned[i] = true
		case last >= 0 && !hasNoEOL && strings.HasSuffix(" # "+lineTag(owner), text): // empty or the end of a tag: the next lines decide
		case open && !hasNoEOL && isEmptyLine(lines[i+1]) && isTruncatedLine(text, owner): // the next lines decide
		default:
			last = -1
		}
	}
	return owned
}

// isEmptyLine reports whether a line has a line ending and nothing else.
func isEmptyLine(line []byte) bool { return len(line) > 0 && trimEOL(line) == "" }

func allEmptyLines(lines [][]byte) bool {
	return !slices.ContainsFunc(lines, func(line []byte) bool { return !isEmptyLine(line) })
}

// isTruncatedLine reports whether text is the beginning of one of an owner's lines, as
// left by a write that was cut short: part of the end marker, part of an address, or an
// address followed by names in the layout of a block.
func isTruncatedLine(text, owner string) bool {
	begins := func(line string) bool { return strings.HasPrefix(line, text) }
	if begins(endMarker(owner)) || begins(noEOLPrefix) || begins(createdLine) || begins("127.") {
		return true
	}
	address, names, hasNames := strings.Cut(text, " ")
	if !hasNames {
		return strings.HasPrefix(text, "127.") && strings.Trim(text, "0123456789.") == ""
	}
	addr, err := netip.ParseAddr(address)
	padding := min(max(16-len(address), 0), len(names))
	return err == nil && addr.IsLoopback() && strings.TrimLeft(names, " ") == names[padding:]
}
