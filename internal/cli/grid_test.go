package cli

import (
	"strings"
	"sync"
	"testing"
)

// grid is a terminal's screen, as far as a view knows of one: it has no end below, and
// knows \r, \n, ESC[K and ESC[m. It is an io.Writer.
type grid struct {
	t       *testing.T
	columns int

	mu       sync.Mutex
	rows     [][]rune
	row, col int
	escape   string // what has come of one
}

func newGrid(t *testing.T, columns int) *grid {
	return &grid{t: t, columns: columns, rows: make([][]rune, 1)}
}

func (g *grid) Write(text []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range string(text) {
		g.put(r)
	}
	return len(text), nil
}

func (g *grid) put(r rune) {
	switch {
	case g.escape != "":
		g.escape += string(r)
		switch {
		case r == '[' || r == ';' || '0' <= r && r <= '9':
			return
		case g.escape == "\x1b[K":
			g.rows[g.row] = g.rows[g.row][:min(g.col, len(g.rows[g.row]))]
		case r != 'm':
			g.t.Errorf("not every terminal knows %q", g.escape)
		}
		g.escape = ""
	case r == '\x1b':
		g.escape = "\x1b"
	case r == '\r':
		g.col = 0
	case r == '\n':
		g.down()
	default:
		if g.col >= g.columns {
			g.down()
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

func (g *grid) down() {
	if g.row++; g.row == len(g.rows) {
		g.rows = append(g.rows, nil)
	}
}

// resize makes it as wide as that; what stands there stays.
func (g *grid) resize(columns int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.columns = columns
}

// String returns what is seen.
func (g *grid) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	lines := make([]string, 0, len(g.rows))
	for _, row := range g.rows {
		lines = append(lines, strings.TrimRight(string(row), " "))
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n") + "\n"
}

// raw is a grid as it is written to without a terminal's driver before it.
type raw struct{ *grid }

func (r raw) Write(text []byte) (int, error) {
	_, err := r.grid.Write([]byte(strings.ReplaceAll(string(text), "\n", "\r\n")))
	return len(text), err
}
