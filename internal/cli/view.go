package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/pkg/control"
	"github.com/kubeshore/kubeshore/pkg/kube"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

const (
	// maxAlike is how many lines of one kind are shown in a row; the others are counted.
	maxAlike = 20
	// drawEvery is how often the last line is drawn anew, if nothing happens.
	drawEvery = time.Second
)

// view is what a person sees of a log in a terminal: a line for each thing that happens,
// and a last line that says what stands. It is a logrus.Hook, and a logrus.Formatter.
type view struct {
	screen *screen

	mu     sync.Mutex
	kind   byte      // of the line before: + ~ or -, or 0
	alike  [2]int    // how many of it came in a row without problems, and with
	hidden [2]int    // how many of these aren't shown
	at     time.Time // of the last that isn't
}

// viewOf returns the view of a log, or nil if it has none.
func viewOf(log *logrus.Logger) *view {
	for _, hook := range log.Hooks[logrus.InfoLevel] {
		if v, ok := hook.(*view); ok {
			return v
		}
	}
	return nil
}

// Levels implements logrus.Hook.
func (*view) Levels() []logrus.Level { return logrus.AllLevels }

// Fire shows a line, or counts it.
func (v *view) Fire(entry *logrus.Entry) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	kind, wrong := kindOf(entry)
	if kind == 0 || kind != v.kind {
		v.count()
		v.kind, v.alike = kind, [2]int{}
	}
	if v.alike[wrong]++; kind != 0 && v.alike[wrong] > maxAlike {
		v.hidden[wrong]++
		v.at = entry.Time
		return nil
	}
	line, err := v.Format(entry)
	_, _ = v.screen.Write(line)
	return err
}

// kindOf returns the mark of a line that says that a service came, changed or went, and
// whether it has problems (1) or not (0).
func kindOf(entry *logrus.Entry) (mark byte, wrong int) {
	m := entry.Message
	if entry.Level < logrus.WarnLevel || entry.Level > logrus.InfoLevel || len(m) < 3 || m[1] != ' ' || strings.IndexByte("+~-", m[0]) < 0 {
		return 0, 0
	}
	if entry.Level == logrus.WarnLevel {
		wrong = 1
	}
	return m[0], wrong
}

// count says how many lines weren't shown. mu must be held.
func (v *view) count() {
	all := v.hidden[0] + v.hidden[1]
	if all == 0 {
		return
	}
	problems := ""
	if n := v.hidden[1]; n > 0 {
		problems = fmt.Sprintf(", %d of them with problems", n)
	}
	fmt.Fprintf(v.screen, "%s %c %d more%s: kubeshore ps\n", v.at.Format(time.TimeOnly), v.kind, all, problems)
	v.hidden, v.alike = [2]int{}, [2]int{}
}

// Format returns an entry as a person reads it.
func (v *view) Format(entry *logrus.Entry) ([]byte, error) {
	var b strings.Builder
	b.WriteString(entry.Message)
	for _, key := range slices.Sorted(maps.Keys(entry.Data)) {
		fmt.Fprintf(&b, " %s=%v", key, entry.Data[key])
	}
	colour := ""
	switch entry.Level {
	case logrus.PanicLevel, logrus.FatalLevel, logrus.ErrorLevel:
		colour = "31"
	case logrus.WarnLevel:
		colour = "33"
	case logrus.DebugLevel, logrus.TraceLevel:
		colour = "2"
	case logrus.InfoLevel:
	}
	indent := len(time.TimeOnly) + 1
	text := wrap(strings.TrimRight(b.String(), "\n"), v.screen.width()-indent, indent)
	return []byte(entry.Time.Format(time.TimeOnly) + " " + v.screen.coloured(text, colour) + "\n"), nil
}

// leastRoom is how many columns must be left beside the time for lines to be broken.
const leastRoom = 20

// wrap breaks a text between words, so that it has at most room columns in each line,
// and indents all but the first line. A word that is longer stays whole, and so does a
// text where there is little room, or none that is known.
func wrap(text string, room, indent int) string {
	if room < leastRoom {
		return text
	}
	var b strings.Builder
	used := 0
	for i, word := range strings.Split(text, " ") {
		length := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case used+1+length > room:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			used = 0
		default:
			b.WriteByte(' ')
			used++
		}
		b.WriteString(word)
		used += length
	}
	return b.String()
}

// draw makes text the last line.
func (v *view) draw(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.count()
	v.screen.draw(text)
}

// shown is what a last line is true of.
type shown interface {
	Changed() <-chan struct{}
	lastLine() string
}

// run keeps the last line true until finished is closed.
func (v *view) run(finished <-chan struct{}, of shown) {
	tick := time.NewTicker(drawEvery)
	defer tick.Stop()
	defer v.draw("")
	for {
		changed := of.Changed()
		v.draw(of.lastLine())
		select {
		case <-finished:
			return
		case <-changed:
		case <-tick.C:
		}
	}
}

// lastLine says in a line what stands.
func (r *running) lastLine() string {
	status := r.Status()
	if status.Synced || status.Stopping {
		return summary(status, "")
	}
	return summary(status, progress(r.wanted.now.Load().follow, r.wanted.source.Snapshot()))
}

// progress says how far what is followed has been read.
func progress(wanted []kube.Follow, known plan.Snapshot) string {
	var reading []string
	for _, follow := range wanted {
		i := slices.IndexFunc(known.Clusters, func(c plan.Cluster) bool { return c.Context == follow.Context })
		if i < 0 || len(unread(follow.Namespaces, known.Clusters[i].Read)) > 0 {
			reading = append(reading, follow.Context)
		}
	}
	var parts []string
	if n := len(known.Services); n > 0 {
		parts = append(parts, fmt.Sprintf("services found: %d", n))
	}
	if len(reading) > 0 {
		parts = append(parts, "reading "+strings.Join(reading, ", "))
	}
	return strings.Join(parts, ", ")
}

// count returns how many services can answer, of those that can be forwarded.
func count(services []control.Service) (works, all int) {
	for _, s := range services {
		if s.State.Works() {
			works++
		}
		if s.State != control.Skipped {
			all++
		}
	}
	return works, all
}

// summary says in a line what stands, the most important first; more, if it isn't empty,
// comes second.
func summary(status control.Status, more string) string {
	var parts []string
	switch {
	case status.Stopping:
		parts = append(parts, "taking everything back")
	case !status.Synced:
		parts = append(parts, "starting", more)
	default:
		works, all := count(status.Services)
		open := 0
		var up, down uint64
		for _, s := range status.Services {
			open += s.Connections
			up, down = up+s.BytesUp, down+s.BytesDown
		}
		parts = append(parts, fmt.Sprintf("%d/%d services ready", works, all), more)
		if n := len(status.Problems); n > 0 {
			parts = append(parts, fmt.Sprintf("problems: %d", n))
		}
		for _, c := range status.Contexts {
			if len(c.Reading) > 0 {
				parts = append(parts, "reading "+c.Name)
			}
			if n := len(c.Problems); n > 0 {
				parts = append(parts, fmt.Sprintf("%s: problems: %d", c.Name, n))
			}
		}
		parts = append(parts, fmt.Sprintf("%d open", open), "↑"+bytesText(up)+" ↓"+bytesText(down))
	}
	contexts := make([]string, 0, len(status.Contexts))
	for _, c := range status.Contexts {
		namespaces := strings.Join(c.Namespaces, ",")
		if len(c.Namespaces) == 0 {
			namespaces = "all namespaces"
		}
		contexts = append(contexts, c.Name+"/"+namespaces)
	}
	parts = append(parts, strings.Join(contexts, " "))
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), " · ")
}
