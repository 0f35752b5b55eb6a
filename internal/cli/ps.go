package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/kubeshore/kubeshore/pkg/control"
)

// The formats of ps.
var psFormats = []string{"", "wide", "name", "json", "yaml"}

func newPs(streams Streams) *cobra.Command {
	var format string
	var watch bool
	var of choice
	cmd := &cobra.Command{
		Use:   "ps [SERVICE...]",
		Short: "Show what is forwarded",
		Long: `Show what the running kubeshore forwards: a service's address and ports, the pods
behind it (ready/all), open connections, the bytes that clients and pods have
said, and whether it can answer. What can't comes first.`,
		Example: `  kubeshore ps
  kubeshore ps db.data -n shop         # that service, as far as it is in the namespace
  kubeshore ps -o wide                 # with the names, and the connections so far
  kubeshore ps -w                      # and a line for each change
  kubeshore ps -o json | jq -r '.services[] | select(.state | IN("ready", "skipped") | not).name'`,
		ValidArgsFunction: completeServices,
		RunE: func(cmd *cobra.Command, names []string) error {
			of.services = names
			switch {
			case !slices.Contains(psFormats, format):
				return usage(fmt.Errorf("--output %s: it is wide, name, json or yaml", format))
			case watch && format == "yaml":
				return usage(errors.New("--watch can't be had with --output yaml; json has an event in each line"))
			}
			client, err := newClient()
			if err != nil {
				return err
			}
			return explainClient(ps(cmd.Context(), client, streams.Out, of, format, watch))
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "", "wide, name, json or yaml")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on with what changes")
	cmd.Flags().VarP((*list)(&of.namespaces), "namespace", "n", "services of these namespaces only, separated by commas")
	_ = cmd.RegisterFlagCompletionFunc("namespace", completeForwarded)
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(psFormats[1:], cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// choice is which services somebody wants to see: those of some names, or all if there are
// none, as far as they are in some namespaces, or in whichever.
type choice struct{ services, namespaces []string }

func (c choice) has(id control.ServiceID, names ...string) bool {
	called := func(name string) bool { return name == id.Name || name == id.Service || slices.Contains(names, name) }
	return (len(c.namespaces) == 0 || slices.Contains(c.namespaces, id.Namespace)) &&
		(len(c.services) == 0 || slices.ContainsFunc(c.services, called))
}

// from returns a status with the services that were chosen. The error says of which names
// there are none.
func (c choice) from(status control.Status) (control.Status, error) {
	var errs []error
	for _, name := range c.services {
		one := choice{[]string{name}, c.namespaces}
		if !slices.ContainsFunc(status.Services, func(s control.Service) bool { return one.has(s.ID(), s.Names...) }) {
			errs = append(errs, fmt.Errorf("no service is called %s", name))
		}
	}
	status.Services = slices.DeleteFunc(status.Services, func(s control.Service) bool { return !c.has(s.ID(), s.Names...) })
	return status, errors.Join(errs...)
}

// among returns what passes those events to handle that are about what was chosen: a
// service that once was goes on to be, whatever names it has left.
func (c choice) among(handle func(control.Event) error) func(control.Event) error {
	chosen := make(map[control.ServiceID]bool)
	wants := func(id control.ServiceID, names ...string) bool {
		key := id
		key.Name = "" // it may change
		chosen[key] = chosen[key] || c.has(id, names...)
		return chosen[key]
	}
	var held *control.Event // the last one of a moment so far
	return func(e control.Event) error {
		if e.Status != nil {
			e.Status.Services = slices.DeleteFunc(e.Status.Services, func(s control.Service) bool { return !wants(s.ID(), s.Names...) })
		}
		if (e.Service == nil || wants(e.Service.ID(), e.Service.Names...)) && (e.Gone == nil || wants(*e.Gone)) {
			if held != nil {
				if err := handle(*held); err != nil {
					return err
				}
			}
			held = &e
		}
		if e.More || held == nil {
			return nil
		}
		last := *held
		last.More, held = false, nil
		return handle(last)
	}
}

// ps writes what stands of the services that were chosen and, if it is to watch, what
// changes until ctx ends.
func ps(ctx context.Context, client *control.Client, out io.Writer, of choice, format string, watch bool) error {
	if !watch {
		status, err := client.Status(ctx)
		if err != nil {
			return err
		}
		status, unknown := of.from(status)
		if len(status.Services) == 0 && unknown != nil {
			return unknown
		}
		return errors.Join(writeStatus(out, status, format), unknown)
	}
	table := newTable(out, format == "wide")
	err := client.Events(ctx, of.among(func(e control.Event) error {
		switch {
		case format == "json":
			return json.NewEncoder(out).Encode(e)
		case e.Status != nil && format == "name":
			return writeStatus(out, *e.Status, format)
		case e.Status != nil:
			return table.status(*e.Status)
		case e.Service != nil && format == "name":
			_, err := fmt.Fprintln(out, e.Service.Name)
			return err
		case e.Service != nil:
			return table.change(*e.Service)
		case e.Gone != nil && format != "name":
			_, err := fmt.Fprintf(out, "%s  is gone\n", e.Gone.Name)
			return err
		case e.Overview != nil && format != "name":
			return table.overview(*e.Overview)
		}
		return nil
	}))
	if err == nil && ctx.Err() == nil {
		return errEnded
	}
	return err
}

func writeStatus(out io.Writer, status control.Status, format string) error {
	switch format {
	case "json":
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "    ")
		return encoder.Encode(status)
	case "yaml":
		text, err := yaml.Marshal(status)
		if err != nil {
			return err
		}
		_, err = out.Write(text)
		return err
	case "name":
		var b strings.Builder
		for _, s := range status.Services {
			b.WriteString(s.Name + "\n")
		}
		_, err := io.WriteString(out, b.String())
		return err
	}
	return newTable(out, format == "wide").status(status)
}

// gap is between two columns: with it most tables fit 80.
const gap = 2

// table writes services in columns, as kubectl has them.
type table struct {
	out     io.Writer
	wide    bool
	colours bool
	widths  []int
	said    []string // the problems that were written last
	notes   []string // what else there was to say then
}

func newTable(out io.Writer, wide bool) *table {
	return &table{out: out, wide: wide, colours: hasColours(out)}
}

func (t *table) head() []string {
	if t.wide {
		return []string{"SERVICE", "ADDRESS", "PORTS", "PODS", "CONNS", "TOTAL", "TRAFFIC", "CONTEXT", "NAMES", "STATE"}
	}
	return []string{"SERVICE", "ADDRESS", "PORTS", "PODS", "CONNS", "TRAFFIC", "STATE"}
}

// row returns a service's cells; the last is its state with the reason.
func (t *table) row(s control.Service) []string {
	ports := make([]string, 0, len(s.Ports))
	for _, p := range s.Ports {
		ports = append(ports, strconv.Itoa(int(p.Port)))
	}
	pods := fmt.Sprintf("%d/%d", s.ReadyPods, s.Pods)
	address := s.Address
	if s.Local || s.AliasOf != "" {
		pods = ""
	}
	if s.AliasOf != "" {
		address = "= " + s.AliasOf
	}
	traffic := ""
	if s.BytesUp+s.BytesDown > 0 {
		traffic = "↑" + bytesText(s.BytesUp) + " ↓" + bytesText(s.BytesDown)
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
	for i, cell := range cells {
		if cell == "" {
			cells[i] = "-"
		}
	}
	return append(cells, state)
}

// status writes a table: what can't answer, or not quite, under a heading of its own, and
// so what there is nothing to forward of, last.
func (t *table) status(status control.Status) error {
	var wrong, right, skipped []control.Service
	t.fit(t.head())
	for _, s := range status.Services {
		t.fit(t.row(s))
		switch s.State {
		case control.Ready:
			right = append(right, s)
		case control.Skipped:
			skipped = append(skipped, s)
		case control.Degraded, control.Waiting, control.Failed:
			wrong = append(wrong, s)
		}
	}
	var b strings.Builder
	t.said = problemsOf(status.Overview)
	if len(wrong)+len(t.said) > 0 {
		b.WriteString("PROBLEMS\n")
	}
	for _, problem := range t.said {
		b.WriteString(problem + "\n")
	}
	for i, section := range [][]control.Service{wrong, right, skipped} {
		if len(section) == 0 {
			continue
		}
		if i > 0 && b.Len() > 0 {
			b.WriteByte('\n')
		}
		if i == 1 && b.Len() > 0 || i == 2 {
			b.WriteString([]string{"", "READY\n", "SKIPPED\n"}[i])
		}
		t.write(&b, t.head(), "")
		for _, s := range section {
			t.write(&b, t.row(s), s.State)
		}
	}
	t.notes = notesOf(status.Overview)
	for _, note := range t.notes {
		b.WriteString(note + "\n")
	}
	if len(t.notes)+len(status.Services) == 0 {
		b.WriteString("no services: " + describeContexts(status.Contexts) + "\n")
	}
	_, err := io.WriteString(t.out, b.String())
	return err
}

// change writes a service's row.
func (t *table) change(s control.Service) error {
	var b strings.Builder
	t.write(&b, t.row(s), s.State)
	_, err := io.WriteString(t.out, b.String())
	return err
}

// notesOf says what the kubeshore does beside what it always does, a line each.
func notesOf(o control.Overview) (notes []string) {
	switch {
	case o.Stopping:
		return []string{"it is just ending: " + describeContexts(o.Contexts)}
	case !o.Synced:
		return []string{"it is just starting: " + describeContexts(o.Contexts)}
	}
	for _, c := range o.Contexts {
		notes = append(notes, c.Syncing()...)
	}
	return notes
}

// overview writes what is new of that, which of the contexts' problems are, and which
// there are no more.
func (t *table) overview(o control.Overview) error {
	now, notes := problemsOf(o), notesOf(o)
	var b strings.Builder
	for _, problem := range now {
		if !slices.Contains(t.said, problem) {
			b.WriteString("problem: " + problem + "\n")
		}
	}
	for _, problem := range t.said {
		if !slices.Contains(now, problem) {
			b.WriteString("solved: " + problem + "\n")
		}
	}
	for _, note := range notes {
		if !slices.Contains(t.notes, note) {
			b.WriteString(note + "\n")
		}
	}
	t.said, t.notes = now, notes
	_, err := io.WriteString(t.out, b.String())
	return err
}

func problemsOf(o control.Overview) []string {
	problems := slices.Clip(o.Problems)
	for _, c := range o.Contexts {
		problems = append(problems, c.Problems...)
	}
	return problems
}

// fit makes columns as wide as the cells.
func (t *table) fit(cells []string) {
	if t.widths == nil {
		t.widths = make([]int, len(cells))
	}
	for i, cell := range cells {
		t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell))
	}
}

func (t *table) write(b *strings.Builder, cells []string, state control.State) {
	last := len(cells) - 1
	for i, cell := range cells[:last] {
		b.WriteString(cell + strings.Repeat(" ", max(t.widths[i]-utf8.RuneCountInString(cell), 0)+gap))
	}
	text := cells[last]
	if colour := colourOf(state); t.colours && colour != "" {
		rest := strings.TrimPrefix(text, string(state))
		text = "\x1b[" + colour + "m" + string(state) + "\x1b[0m" + rest
	}
	b.WriteString(text + "\n")
}

// colourOf returns how a terminal is told to show a state (ECMA-48, SGR).
func colourOf(state control.State) string {
	switch state {
	case control.Ready:
		return "32"
	case control.Degraded, control.Waiting:
		return "33"
	case control.Failed:
		return "31"
	case control.Skipped:
		return "2"
	}
	return ""
}

// bytesText returns a number of bytes as people read it.
func bytesText(n uint64) string {
	if n < 1000 {
		return strconv.FormatUint(n, 10) + "B"
	}
	value, unit := float64(n)/1000, 0
	for value >= 999.5 && unit < 4 {
		value, unit = value/1000, unit+1
	}
	if value < 9.95 {
		return fmt.Sprintf("%.1f%cB", value, "kMGTP"[unit])
	}
	return fmt.Sprintf("%.0f%cB", value, "kMGTP"[unit])
}

func describeContexts(contexts []control.Context) string {
	texts := make([]string, 0, len(contexts))
	for _, c := range contexts {
		texts = append(texts, describeContext(c))
	}
	return strings.Join(texts, "; ")
}
