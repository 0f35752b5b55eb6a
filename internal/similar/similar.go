// Package similar finds the word that was probably meant by a misspelled one.
package similar

import "strings"

// Word returns the candidate that is nearest to a misspelled word, in any case of its
// letters; empty if none is near enough. The distance is the number of letters that
// were added, removed, replaced or swapped with the next one (optimal string
// alignment); one of three may be wrong, and one of a shorter word.
func Word(misspelled string, candidates []string) string {
	nearest, best := "", max(len(misspelled)/3, 1)+1
	for _, candidate := range candidates {
		if d := distance(strings.ToLower(misspelled), strings.ToLower(candidate)); d < best {
			nearest, best = candidate, d
		}
	}
	return nearest
}

func distance(a, b string) int {
	previous, before := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			replaced := previous[j]
			if a[i] != b[j] {
				replaced++
			}
			row[j+1] = min(replaced, row[j]+1, previous[j+1]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, previous = previous, row
	}
	return previous[len(b)]
}
