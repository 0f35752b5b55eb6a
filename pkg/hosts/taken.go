package hosts

import (
	"bytes"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/txn2/txeh"
)

// takenNames returns those of the names that lines of others have, each with its error.
// Only lines that contain one of them are parsed: a blocklist has hundreds of thousands
// of others.
func takenNames(content []byte, names map[string]bool) (map[string]TakenError, error) {
	var found []byte
	var filter wordFilter
	for name := range names {
		filter.add(name)
	}
	for line := range bytes.Lines(content) {
		if filter.matches(line, names) {
			found = append(bytes.TrimRight(append(found, line...), "\r\n"), '\n')
		}
	}
	lines, err := txeh.ParseHostsFromString(string(found))
	if err != nil {
		return nil, err
	}
	taken := make(map[string]TakenError)
	for _, line := range lines {
		if _, err := netip.ParseAddr(strings.TrimPrefix(line.Address, "\ufeff")); err != nil {
			continue // resolvers ignore the line
		}
		for _, name := range line.Hostnames {
			if name = strings.TrimSuffix(name, "."); names[name] {
				taken[name] = TakenError{Address: line.Address, Owner: ownerOf(line.Raw)}
			}
		}
	}
	return taken, nil
}

// allNames returns the names of a table.
func allNames(table map[netip.Addr][]string) map[string]bool {
	names := make(map[string]bool)
	for list := range maps.Values(table) {
		for name := range slices.Values(list) {
			names[name] = true
		}
	}
	return names
}

// wordFilter tells most words that are none of a set of names from those that may be.
type wordFilter struct {
	ends [64][4]uint64 // by length modulo 64, the set of last bytes in lower case
}

func (f *wordFilter) add(name string) {
	if name != "" {
		last := name[len(name)-1]
		f.ends[len(name)%64][last/64] |= 1 << (last % 64)
	}
}

// matches reports whether a line has one of the names as a word, in any case, with or
// without a trailing dot.
func (f *wordFilter) matches(line []byte, names map[string]bool) bool {
	for start := 0; start < len(line); {
		end := start
		for end < len(line) && isNameByte[line[end]] {
			end++
		}
		word := bytes.TrimSuffix(line[start:end], []byte("."))
		start = end + 1
		if len(word) == 0 {
			continue
		}
		last := word[len(word)-1] | 0x20 // the same for digits and '-'
		if f.ends[len(word)%64][last/64]&(1<<(last%64)) != 0 && names[strings.ToLower(string(word))] {
			return true
		}
	}
	return false
}

// isNameByte has the bytes of valid names, in upper and lower case.
var isNameByte = func() (is [256]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") {
		is[c] = true
	}
	return is
}()
