package hosts

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
)

// block is a hosts file, split into an owner's lines and the rest.
type block struct {
	found  bool
	intact bool   // there is one marker of each kind, with only the owner's lines between them
	text   string // the lines between the markers, in the form of renderLines
	// before and after are the lines of others before and after the owner's first line.
	before, after []byte
	eol           string // the block's line ending
	origin        string // the line of isOriginLine, or ""
}

// splitBlock separates an owner's lines from the rest of a hosts file. It copies none of
// the rest, which may be megabytes long, unless the owner's lines are in several places.
func splitBlock(content []byte, owner string) block {
	from, to, last := ownerSection(content, owner)
	lines := slices.Collect(bytes.Lines(content[from:to]))
	section := len(lines)
	lines = append(lines, content[last:])
	b := block{eol: lineEnding(content), before: content}
	var text strings.Builder
	begins, ends, parts, offset := 0, 0, 0, from
	var pieces [][]byte // of after
	owned := ownedLines(lines, owner)
	for i, line := range lines {
		if i == section {
			if b.found {
				pieces = append(pieces, content[offset:last])
			}
			offset = last
		}
		offset += len(line)
		if !owned[i] {
			if b.found {
				pieces = append(pieces, line)
			}
			continue
		}
		if i == 0 || !owned[i-1] {
			parts++
		}
		if !b.found {
			b.found, b.before = true, content[:offset-len(line)]
		}
		switch trimmed := trimEOL(line); {
		case trimmed == beginMarker(owner):
			begins++
			b.eol = cmp.Or(string(line[len(trimmed):]), b.eol)
		case trimmed == endMarker(owner):
			ends++
		case isOriginLine(trimmed):
			b.origin = trimmed
		case trimmed != "":
			text.WriteString(trimmed + "\n")
		}
	}
	if b.found {
		b.after = slices.Concat(append(pieces, content[offset:])...)
	}
	b.text, b.intact = text.String(), parts == 1 && begins == 1 && ends == 1
	return b
}

// ownerSection returns the part of a hosts file, content[from:to], that has all of an
// owner's lines, except perhaps the last line of the file, content[last:], which has no
// line ending and may be empty.
func ownerSection(content []byte, owner string) (from, to, last int) {
	last = bytes.LastIndexByte(content, '\n') + 1
	tag := []byte(lineTag(owner))
	first := bytes.Index(content, tag)
	if first < 0 {
		return last, last, last
	}
	from = bytes.LastIndexByte(content[:first], '\n') + 1
	to = bytes.LastIndex(content, tag)
	// The remains of a write that was cut short may follow, up to a line that is not
	// empty, no part of a tag, and not followed by empty lines.
	for foreign := false; !foreign; {
		end := bytes.IndexByte(content[to:], '\n')
		if end < 0 || to+end+1 >= last {
			return min(from, last), last, last
		}
		to += end + 1
		line, next, _ := bytes.Cut(content[to:], []byte("\n"))
		foreign = !bytes.HasSuffix([]byte(" # "+lineTag(owner)), bytes.TrimRight(line, "\r")) &&
			len(next) > 0 && next[0] != '\r' && next[0] != '\n'
	}
	end := bytes.IndexByte(content[to:], '\n') + 1 // ownedLines needs to see the foreign line
	return from, min(to+end, last), last
}

// rest returns the lines of others.
func (b block) rest() []byte {
	if len(b.after) == 0 {
		return b.before
	}
	return slices.Concat(b.before, b.after)
}

// isWholeFile reports whether kubeshore created the file, and it has nothing but the block.
func (b block) isWholeFile() bool { return b.origin == createdLine && len(b.before)+len(b.after) == 0 }

// without returns the file as it was before the block was added. If another block follows,
// the origin line moves to that block.
func (b block) without() []byte {
	before := b.before
	switch b.origin {
	case "":
		return b.rest()
	case createdLine:
		if len(before) > 0 {
			return b.rest() // the user's file now
		}
	default:
		before = bytes.TrimSuffix(before, []byte(b.eol))
		if len(before) == len(b.before) || b.origin != noEOLLine(before) {
			return b.rest()
		}
	}
	if len(b.after) == 0 {
		return before
	}
	next, _, _ := bytes.Cut(b.after, []byte("\n"))
	first := len(next) + 1
	second, _, _ := bytes.Cut(b.after[min(first, len(b.after)):], []byte("\n"))
	if owner := ownerOf(trimEOL(next)); owner == "" || trimEOL(next) != beginMarker(owner) || isOriginLine(trimEOL(second)) {
		return b.rest()
	}
	return slices.Concat(b.before, b.after[:first], []byte(b.origin+b.eol), b.after[first:])
}
