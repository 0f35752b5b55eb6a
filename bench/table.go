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
	rows  []tableRow
}

type tableRow struct {
	metric metric
	cells  []cell
}

// cell is what the rounds gave for one row and one forwarder.
type cell struct {
	values             []float64
	timeouts, failures int
}

func newTable(forwarders []forwarder, measures []benchmark) table {
	var t table
	for _, f := range forwarders {
		t.names = append(t.names, f.name())
	}
	for _, m := range measures {
		for _, r := range m.metrics {
			t.rows = append(t.rows, tableRow{metric: r, cells: make([]cell, len(forwarders))})
		}
	}
	return t
}

// add takes the outcome of a further round.
func (c *cell) add(o result) {
	switch {
	case o.err == nil:
		c.values = append(c.values, o.value)
	case timedOut(o.err):
		c.timeouts++
	default:
		c.failures++
	}
}

// median is that of the rounds that gave a figure, if at least half of them
// did.
func (c *cell) median() (float64, bool) {
	if len(c.values) == 0 || len(c.values) < c.timeouts+c.failures {
		return 0, false
	}
	return median(c.values), true
}

// text is the median, or what came of it instead; and how many rounds gave
// none, if any did.
func (c *cell) text() string {
	without := c.timeouts + c.failures
	m, ok := c.median()
	switch {
	case !ok && without == 0:
		return "–"
	case !ok && c.timeouts >= c.failures:
		return "hangs"
	case !ok:
		return "fails"
	case without > 0:
		return fmt.Sprintf("%s (%d of %d: none)", formatNumber(m), without, without+len(c.values))
	}
	return formatNumber(m)
}

// valueRange is the lowest and the highest round.
func (c *cell) valueRange() string {
	if _, ok := c.median(); !ok {
		return c.text()
	}
	return formatNumber(slices.Min(c.values)) + "–" + formatNumber(slices.Max(c.values))
}

// ratio is our median by the best of the others', if both are.
func (l *tableRow) ratio() string {
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
	if l.metric.higherIsBetter {
		best = slices.Max(others)
	}
	if best == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", ours/best)
}

// fields is the line as text: its title, its unit, and what is to be said of
// each cell.
func (l *tableRow) fields(unit string, say func(*cell) string) []string {
	fields := make([]string, 0, len(l.cells)+3) // the caller may add one
	fields = append(fields, l.metric.title, unit)
	for i := range l.cells {
		fields = append(fields, say(&l.cells[i]))
	}
	return fields
}

// write prints the medians and the ratios as a table in Markdown.
func (t *table) write(w io.Writer) error {
	header := append(append([]string{"", ""}, t.names...), "ratio to the best other")
	return writeRows(w, header, t.rows, func(l *tableRow) []string {
		better := " ↓"
		if l.metric.higherIsBetter {
			better = " ↑"
		}
		return append(l.fields(l.metric.unit+better, (*cell).text), l.ratio())
	})
}

// writeRanges prints the lowest and highest rounds as a table in Markdown.
func (t *table) writeRanges(w io.Writer) error {
	header := append([]string{"", ""}, t.names...)
	return writeRows(w, header, t.rows, func(l *tableRow) []string {
		return l.fields(l.metric.unit, (*cell).valueRange)
	})
}

// writeRows prints a table in Markdown whose columns are aligned.
func writeRows(w io.Writer, header []string, lines []tableRow, fields func(*tableRow) []string) error {
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

// formatNumber has three digits that matter.
func formatNumber(v float64) string {
	switch {
	case v >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case v >= 9.995:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
