// Package servicetable writes the services of a status in columns, like kubectl.
package servicetable

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/kubeshore/kubeshore/internal/daemon"
	"github.com/kubeshore/kubeshore/internal/printable"
	"github.com/kubeshore/kubeshore/internal/term"
	"github.com/kubeshore/kubeshore/pkg/control"
)

// maxListedPorts limits the ports in a row.
const maxListedPorts = 20

// columnGap is the space between two columns. With 2 most tables fit 80 columns.
const columnGap = 2

// Table writes services in columns.
type Table struct {
	out      io.Writer
	wide     bool
	colors   bool
	widths   []int
	problems problemLists // that were written last
	notes    []string     // that were written last
}

// New returns a table, with more columns if wide.
func New(out io.Writer, wide bool) *Table {
	return &Table{out: out, wide: wide, colors: term.HasColors(out)}
}

func (t *Table) header() []string {
	if t.wide {
		return []string{"SERVICE", "ADDRESS", "PORTS", "PODS", "CONNS", "TOTAL", "TRAFFIC", "CONTEXT", "NAMES", "STATE"}
	}
	return []string{"SERVICE", "ADDRESS", "PORTS", "PODS", "CONNS", "TRAFFIC", "STATE"}
}

// row returns a service's cells. The last is its state with the reason.
func (t *Table) row(s control.Service) []string {
	ports := make([]string, 0, len(s.Ports))
	for _, p := range s.Ports[:min(len(s.Ports), maxListedPorts)] {
		ports = append(ports, strconv.Itoa(int(p.Port)))
	}
	if len(s.Ports) > maxListedPorts {
		ports = append(ports, fmt.Sprintf("… (%d ports)", len(s.Ports)))
	}
	pods := fmt.Sprintf("%d/%d", s.ReadyPods, s.Pods)
	if s.Local || s.AliasOf != "" {
		pods = ""
	}
	address := s.Address
	if s.AliasOf != "" {
		address = "= " + s.AliasOf
	}
	traffic := ""
	if s.BytesUp+s.BytesDown > 0 {
		traffic = "↑" + term.Bytes(s.BytesUp) + " ↓" + term.Bytes(s.BytesDown)
	}
	state := string(s.State)
	switch {
	case s.Reason != "":
		state += ": " + s.Reason
	case s.Local:
		state += ": runs on this machine"
	}
	cells := []string{s.Name, address, strings.Join(ports, ","), pods, strconv.Itoa(s.Connections)}
	if t.wide {
		cells = append(cells, strconv.FormatUint(s.TotalConnections, 10), traffic, s.Context, strings.Join(s.Names, ","))
	} else {
		cells = append(cells, traffic)
	}
	cells = append(cells, state)
	for i, cell := range cells {
		if cells[i] = printable.Text(cell); cell == "" {
			cells[i] = "-"
		}
	}
	return cells
}

// WriteStatus writes all services: those with problems first, then the ready
// ones, then the skipped ones.
func (t *Table) WriteStatus(status control.Status) error {
	var unhealthy, ready, skipped []control.Service
	t.fit(t.header())
	for _, s := range status.Services {
		t.fit(t.row(s))
		switch s.State {
		case control.Ready:
			ready = append(ready, s)
		case control.Skipped:
			skipped = append(skipped, s)
		case control.Degraded, control.Waiting, control.Failed:
			unhealthy = append(unhealthy, s)
		}
	}
	var b strings.Builder
	t.problems, t.notes = problemsOf(status.Overview), notesOf(status.Overview)
	if len(unhealthy)+len(slices.Concat(t.problems...)) > 0 {
		b.WriteString("PROBLEMS\n")
	}
	writeLines(&b, "", slices.Concat(t.problems...))
	t.writeSection(&b, "", unhealthy)
	if len(ready) > 0 && b.Len() > 0 {
		b.WriteString("\nREADY\n")
	}
	t.writeSection(&b, "", ready)
	if len(skipped) > 0 && b.Len() > 0 {
		b.WriteByte('\n')
	}
	t.writeSection(&b, "SKIPPED\n", skipped)
	writeLines(&b, "", t.notes)
	if len(t.notes)+len(status.Services) == 0 {
		writeLines(&b, "no services: ", []string{daemon.DescribeContexts(status.Contexts)})
	}
	_, err := io.WriteString(t.out, b.String())
	return err
}

// writeSection writes a heading and some services below it, if there are any.
func (t *Table) writeSection(b *strings.Builder, heading string, services []control.Service) {
	if len(services) == 0 {
		return
	}
	b.WriteString(heading)
	t.writeRow(b, t.header(), "")
	for _, s := range services {
		t.writeRow(b, t.row(s), s.State)
	}
}

// WriteChange writes a service that has changed.
func (t *Table) WriteChange(s control.Service) error {
	var b strings.Builder
	t.writeRow(&b, t.row(s), s.State)
	_, err := io.WriteString(t.out, b.String())
	return err
}

// WriteOverview writes the problems and notes that are new, and the contexts that have
// recovered.
func (t *Table) WriteOverview(o control.Overview) error {
	problems, notes := problemsOf(o), notesOf(o)
	var b strings.Builder
	writeLines(&b, "problem: ", without(slices.Concat(problems...), slices.Concat(t.problems...)))
	writeLines(&b, "", recoveries(o, t.problems, problems))
	writeLines(&b, "", without(notes, t.notes))
	t.problems, t.notes = problems, notes
	_, err := io.WriteString(t.out, b.String())
	return err
}

// recoveries returns a line for each part of the overview that has fewer problems than
// before. The parts are those of problemsOf.
func recoveries(o control.Overview, before, after problemLists) (lines []string) {
	if len(before) != len(after) {
		return nil // contexts were added or removed
	}
	for part, problems := range after {
		if len(without(before[part], problems)) == 0 || len(without(problems, before[part])) > 0 {
			continue
		}
		subject := "kubeshore"
		if part > 0 {
			subject = "context " + o.Contexts[part-1].Name
		}
		if len(problems) == 0 {
			lines = append(lines, subject+" recovered")
		} else {
			lines = append(lines, fmt.Sprintf("%s recovered in part; remaining: %s", subject, strings.Join(problems, "; ")))
		}
	}
	return lines
}

func writeLines(b *strings.Builder, prefix string, lines []string) {
	for _, line := range lines {
		b.WriteString(prefix + printable.Text(line) + "\n")
	}
}

// without returns the lines that are not among others.
func without(lines, others []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return slices.Contains(others, line) })
}

// notesOf returns the operations in progress in the daemon and the notes of its
// contexts, a line each.
func notesOf(o control.Overview) (notes []string) {
	switch {
	case o.Stopping:
		return []string{"shutting down: " + daemon.DescribeContexts(o.Contexts)}
	case !o.Synced:
		return []string{"starting: " + daemon.DescribeContexts(o.Contexts)}
	}
	for _, c := range o.Contexts {
		notes = append(append(notes, c.Syncing()...), c.Notes...)
	}
	return notes
}

// problemLists are the problems of the daemon, and those of each context, a line each.
type problemLists [][]string

func problemsOf(o control.Overview) problemLists {
	lists := make(problemLists, 0, 1+len(o.Contexts))
	lists = append(lists, o.Problems)
	for _, c := range o.Contexts {
		lists = append(lists, c.Problems)
	}
	return lists
}

// fit widens the columns for cells.
func (t *Table) fit(cells []string) {
	if t.widths == nil {
		t.widths = make([]int, len(cells))
	}
	for i, cell := range cells {
		t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell))
	}
}

func (t *Table) writeRow(b *strings.Builder, cells []string, state control.State) {
	last := len(cells) - 1
	for i, cell := range cells[:last] {
		b.WriteString(cell + strings.Repeat(" ", max(t.widths[i]-utf8.RuneCountInString(cell), 0)+columnGap))
	}
	text := cells[last]
	if color := colorOf(state); t.colors && color != "" {
		text = term.Colored(string(state), color) + strings.TrimPrefix(text, string(state))
	}
	b.WriteString(text + "\n")
}

func colorOf(state control.State) string {
	switch state {
	case control.Ready:
		return term.Green
	case control.Degraded, control.Waiting:
		return term.Yellow
	case control.Failed:
		return term.Red
	case control.Skipped:
		return term.Dim
	}
	return ""
}
