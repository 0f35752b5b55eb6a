package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// table holds the results: a row per metric, a column per forwarder. The first
// column is kubeshore.
type table struct {
	names []string
	rows  []tableRow
}

type tableRow struct {
	metric metric
	cells  []cell
}

// cell holds the results of all rounds for one metric and one forwarder.
type cell struct {
	values             []float64
	timeouts, failures int
}

func newTable(forwarders []forwarder, benches []benchmark) table {
	var t table
	for _, f := range forwarders {
		t.names = append(t.names, f.name())
	}
	for _, b := range benches {
		for _, m := range b.metrics {
			t.rows = append(t.rows, tableRow{metric: m, cells: make([]cell, len(forwarders))})
		}
	}
	return t
}

// add records the result of another round.
func (c *cell) add(r result) {
	switch {
	case r.err == nil:
		c.values = append(c.values, r.value)
	case timedOut(r.err):
		c.timeouts++
	default:
		c.failures++
	}
}

// median returns the median of the rounds with a value. It reports false if
// fewer than half of the rounds have one.
func (c *cell) median() (float64, bool) {
	if len(c.values) == 0 || len(c.values) < c.timeouts+c.failures {
		return 0, false
	}
	return median(c.values), true
}

// text returns the median, or why there is none, and the number of rounds
// without a value, if any.
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
		return fmt.Sprintf("%s (no result in %d of %d)", formatNumber(m), without, without+len(c.values))
	}
	return formatNumber(m)
}

// valueRange returns the lowest and the highest value.
func (c *cell) valueRange() string {
	if _, ok := c.median(); !ok {
		return c.text()
	}
	return formatNumber(slices.Min(c.values)) + "–" + formatNumber(slices.Max(c.values))
}

// ratio returns kubeshore's median divided by the best median of the others,
// or "–".
func (r *tableRow) ratio() string {
	ours, ok := r.cells[0].median()
	if !ok {
		return "–"
	}
	var others []float64
	for _, c := range r.cells[1:] {
		if m, ok := c.median(); ok {
			others = append(others, m)
		}
	}
	if len(others) == 0 {
		return "–"
	}
	best := slices.Min(others)
	if r.metric.higherIsBetter {
		best = slices.Max(others)
	}
	if best == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", ours/best)
}

// fields returns the row as text: its title, its unit, and each cell as
// formatted by format.
func (r *tableRow) fields(unit string, format func(*cell) string) []string {
	fields := make([]string, 0, len(r.cells)+3) // the caller may append one
	fields = append(fields, r.metric.title, unit)
	for i := range r.cells {
		fields = append(fields, format(&r.cells[i]))
	}
	return fields
}

// write prints the medians and ratios as a Markdown table.
func (t *table) write(w io.Writer) error {
	header := append(append([]string{"", ""}, t.names...), "ratio to the best other")
	return writeRows(w, header, t.rows, func(r *tableRow) []string {
		better := " ↓"
		if r.metric.higherIsBetter {
			better = " ↑"
		}
		return append(r.fields(r.metric.unit+better, (*cell).text), r.ratio())
	})
}

// writeRanges prints the lowest and highest values as a Markdown table.
func (t *table) writeRanges(w io.Writer) error {
	header := append([]string{"", ""}, t.names...)
	return writeRows(w, header, t.rows, func(r *tableRow) []string {
		return r.fields(r.metric.unit, (*cell).valueRange)
	})
}

// writeRows prints a Markdown table with aligned columns.
func writeRows(w io.Writer, header []string, tableRows []tableRow, fields func(*tableRow) []string) error {
	rows := make([][]string, 2, len(tableRows)+2)
	rows[0] = header
	for i := range tableRows {
		rows = append(rows, fields(&tableRows[i]))
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

// formatNumber formats v with three significant digits.
func formatNumber(v float64) string {
	switch {
	case v >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case v >= 9.995:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
