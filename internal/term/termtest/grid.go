// Package termtest helps to test terminal output. It has an emulated terminal, and
// a buffer that tests can wait for.
package termtest

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
)

const awaitTimeout = 10 * time.Second

// Grid is a terminal's screen of unlimited height. It understands \r, \n,
// ESC[K and ESC[m, and fails the test on any other escape sequence. It is an
// io.Writer.
type Grid struct {
	t       *testing.T
	columns int

	mu       sync.Mutex
	rows     [][]rune
	row, col int
	escape   string // the beginning of an escape sequence
}

// NewGrid returns an empty screen.
func NewGrid(t *testing.T, columns int) *Grid {
	return &Grid{t: t, columns: columns, rows: make([][]rune, 1)}
}

// Write interprets output as a terminal does.
func (g *Grid) Write(text []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range string(text) {
		g.putLocked(r)
	}
	return len(text), nil
}

func (g *Grid) putLocked(r rune) {
	switch {
	case g.escape != "":
		g.escapeLocked(r)
	case r == '\x1b':
		g.escape = "\x1b"
	case r == '\r':
		g.col = 0
	case r == '\n':
		g.downLocked()
	default:
		if g.col >= g.columns {
			g.downLocked()
			g.col = 0
		}
		row := g.rows[g.row]
		for len(row) <= g.col {
			row = append(row, ' ')
		}
		row[g.col] = r
		g.rows[g.row] = row
		g.col++
	}
}

func (g *Grid) escapeLocked(r rune) {
	g.escape += string(r)
	switch {
	case r == '[' || r == ';' || '0' <= r && r <= '9':
		return
	case g.escape == "\x1b[K":
		g.rows[g.row] = g.rows[g.row][:min(g.col, len(g.rows[g.row]))]
	case r != 'm':
		g.t.Errorf("escape sequence %q is not understood by every terminal", g.escape)
	}
	g.escape = ""
}

func (g *Grid) downLocked() {
	if g.row++; g.row == len(g.rows) {
		g.rows = append(g.rows, nil)
	}
}

// Resize changes the width. The text stays where it is.
func (g *Grid) Resize(columns int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.columns = columns
}

// String returns the text on the screen.
func (g *Grid) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	lines := make([]string, 0, len(g.rows))
	for _, row := range g.rows {
		lines = append(lines, strings.TrimRight(string(row), " "))
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n") + "\n"
}

// Await waits until the screen ends with the lines last, and returns all of it.
func (g *Grid) Await(t *testing.T, last string) string {
	t.Helper()
	for deadline := time.Now().Add(awaitTimeout); ; {
		shown := g.String()
		if strings.HasSuffix("\n"+shown, "\n"+last+"\n") {
			return shown
		}
		if time.Now().After(deadline) {
			t.Fatalf("screen: got\n%s\nwant at its end\n%s", shown, last)
		}
		<-time.After(time.Millisecond)
	}
}

// Raw is a grid that is written to without a terminal driver, which would turn
// "\n" into "\r\n".
type Raw struct{ *Grid }

// Write writes to the grid.
func (r Raw) Write(text []byte) (int, error) {
	_, err := r.Grid.Write([]byte(strings.ReplaceAll(string(text), "\n", "\r\n")))
	return len(text), err
}

// Output is a buffer that can be waited for.
type Output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends to the buffer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// String returns the buffer's text.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// Await waits until the buffer ends with text, and empties it.
func (o *Output) Await(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(awaitTimeout); !strings.HasSuffix(o.String(), text); {
		if time.Now().After(deadline) {
			t.Fatalf("output: got\n%s\nwant at its end\n%s", o, text)
		}
		<-time.After(time.Millisecond)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b.Reset()
}
