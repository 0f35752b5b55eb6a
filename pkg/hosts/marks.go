package hosts

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
)

// The lines around a block have the name of its owner in them, and so has each line
// between them, behind its names: so they are known wherever they are.
const (
	beginPrefix = "# BEGIN kubeshore "
	beginSuffix = ": written by kubeshore and taken back when it ends; do not edit"
	endPrefix   = "# END kubeshore "
	tagPrefix   = "kubeshore "
	// noEnd follows the first line where the line before the block had no end,
	// and is followed by that line's checksum.
	noEnd = "# the line before had no line end, and has none again when this block goes: "
)

func beginMarker(owner string) string { return beginPrefix + owner + beginSuffix }

func endMarker(owner string) string { return endPrefix + owner }

// tag is the comment behind the names of each of an owner's lines.
func tag(owner string) string { return tagPrefix + owner }

// ownerOf returns whose a line is; empty if it is nobody's.
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

// owners returns whose lines a file has.
func owners(content []byte) []string {
	var found []string
	for line := range bytes.Lines(content) {
		if owner := ownerOf(bare(line)); owner != "" && !slices.Contains(found, owner) {
			found = append(found, owner)
		}
	}
	return found
}

// isOwner tells whether a text is the name of an owner.
func isOwner(text string) bool {
	return text != "" && len(text) <= 63 && strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// bare returns a line without its end.
func bare(line []byte) string { return string(bytes.TrimRight(line, "\r\n")) }

// own tells which lines are an owner's: those that say so; what stands between two of
// them with nothing in it, which makes room; and, where a write was cut off, what is left
// of the last one, or of one that was written over.
func own(lines [][]byte, owner string) []bool {
	ours := make([]bool, len(lines))
	last := -1 // the last one that is the owner's, if nothing of others came since
	take := func(to int) {
		for j := last + 1; last >= 0 && j <= to; j++ {
			ours[j] = true
		}
		last = to
	}
	for i, line := range lines {
		text := bare(line)
		isLast := len(line) == len(text)
		open := last >= 0 && bare(lines[last]) != endMarker(owner)
		switch {
		case ownerOf(text) == owner:
			ours[i] = true
			take(i)
		case open && last == i-1 && strings.HasPrefix(text, noEnd) && bare(lines[last]) == beginMarker(owner):
			take(i)
		case open && isLast && areEmpty(lines[last+1:i]) && (text == "" || isCutOff(text, owner)):
			take(i)
		case isLast && len(text) > len("# BEGIN ") && strings.HasPrefix(beginMarker(owner), text):
			ours[i] = true
		case last >= 0 && !isLast && strings.HasSuffix(" # "+tag(owner), text): // or nothing: what follows decides
		case open && !isLast && isEmpty(lines[i+1]) && isCutOff(text, owner): // likewise
		default:
			last = -1
		}
	}
	return ours
}

// isEmpty tells whether a line has an end and nothing else.
func isEmpty(line []byte) bool { return len(line) > 0 && bare(line) == "" }

func areEmpty(lines [][]byte) bool {
	return !slices.ContainsFunc(lines, func(line []byte) bool { return !isEmpty(line) })
}

// isCutOff tells whether a text is the beginning of one of an owner's lines, as a write that
// was cut off leaves it: some of the last one, or of an address, or an address with names
// behind it as they stand in a block.
func isCutOff(text, owner string) bool {
	begins := func(line string) bool { return strings.HasPrefix(line, text) }
	if begins(endMarker(owner)) || begins(noEnd) || begins("127.") {
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
