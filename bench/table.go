package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// table is what was measured: a line for each row, a column for each
// forwarder, of which the first is ours.
type table struct {
	names []string
	lines []line
}

type line struct {
	row   row
	cells []cell
}

// cell is what the rounds gave for one row and one forwarder.
type cell struct {
	values       []float64
	hangs, fails int
}

func newTable(forwarders []forwarder, measures []measure) table {
	var t table
	for _, f := range forwarders {
		t.names = append(t.names, f.name())
	}
	for _, m := range measures {
		for _, r := range m.rows {
			t.lines = append(t.lines, line{row: r, cells: make([]cell, len(forwarders))})
		}
	}
	return t
}

// add takes the outcome of a further round.
func (c *cell) add(o outcome) {
	switch {
	case o.err == nil:
		c.values = append(c.values, o.value)
	case hangs(o.err):
		c.hangs++
	default:
		c.fails++
	}
}

// median is that of the rounds that gave a figure, if at least half of them
// did.
func (c *cell) median() (float64, bool) {
	if len(c.values) == 0 || len(c.values) < c.hangs+c.fails {
		return 0, false
	}
	return median(c.values), true
}

// text is the median, or what came of it instead; and how many rounds gave
// none, if any did.
func (c *cell) text() string {
	without := c.hangs + c.fails
	m, ok := c.median()
	switch {
	case !ok && without == 0:
		return "–"
	case !ok && c.hangs >= c.fails:
		return "hangs"
	case !ok:
		return "fails"
	case without > 0:
		return fmt.Sprintf("%s (%d of %d: none)", number(m), without, without+len(c.values))
	}
	return number(m)
}

// span is the lowest and the highest round.
func (c *cell) span() string {
	if _, ok := c.median(); !ok {
		return c.text()
	}
	return number(slices.Min(c.values)) + "–" + number(slices.Max(c.values))
}

// ratio is our median by the best of the others', if both are.
func (l *line) ratio() string {
	ours, ok := l.cells[0].median()
	if !ok {
		return "–"
	}
	var others []float64
	for _, c := range l.cells[1:] {
		if m, ok := c.median(); ok {
			others = append(others, m)
		}
	}
	if len(others) == 0 {
		return "–"
	}
	best := slices.Min(others)
	if l.row.more {
		best = slices.Max(others)
	}
	if best == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", ours/best)
}

// fields is the line as text: its title, its unit, and what is to be said of
// each cell.
func (l *line) fields(unit string, say func(*cell) string) []string {
	fields := make([]string, 0, len(l.cells)+3) // the caller may add one
	fields = append(fields, l.row.title, unit)
	for i := range l.cells {
		fields = append(fields, say(&l.cells[i]))
	}
	return fields
}

// write prints the medians and the ratios as a table in Markdown.
func (t *table) write(w io.Writer) error {
	header := append(append([]string{"", ""}, t.names...), "ratio to the best other")
	return writeRows(w, header, t.lines, func(l *line) []string {
		better := " ↓"
		if l.row.more {
			better = " ↑"
		}
		return append(l.fields(l.row.unit+better, (*cell).text), l.ratio())
	})
}

// writeSpans prints the lowest and highest rounds as a table in Markdown.
func (t *table) writeSpans(w io.Writer) error {
	header := append([]string{"", ""}, t.names...)
	return writeRows(w, header, t.lines, func(l *line) []string {
		return l.fields(l.row.unit, (*cell).span)
	})
}

// writeRows prints a table in Markdown whose columns are aligned.
func writeRows(w io.Writer, header []string, lines []line, fields func(*line) []string) error {
	rows := make([][]string, 2, len(lines)+2)
	rows[0] = header
	for i := range lines {
		rows = append(rows, fields(&lines[i]))
	}
	widths := make([]int, len(header))
	for _, r := range rows {
		for i, field := range r {
			widths[i] = max(widths[i], utf8.RuneCountInString(field))
		}
	}
	for i := range header {
		rows[1] = append(rows[1], strings.Repeat("-", max(widths[i], 3)))
	}
	for _, r := range rows {
		for i, field := range r {
			pad := strings.Repeat(" ", max(widths[i], 3)-utf8.RuneCountInString(field))
			if _, err := fmt.Fprintf(w, "| %s%s ", field, pad); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintln(w, "|"); err != nil {
			return err
		}
	}
	return nil
}

// number has three digits that matter.
func number(v float64) string {
	switch {
	case v >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case v >= 9.995:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
