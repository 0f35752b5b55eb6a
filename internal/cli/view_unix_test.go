//go:build !windows

package cli

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/kubeshore/kubeshore/pkg/control"
)

// lastLine has a view show a daemon of the test's.
func (d *daemon) lastLine() string {
	if status := d.Status(); status.Synced {
		return summary(status, "")
	}
	return summary(d.Status(), "reading dev")
}

// manyServices returns a status with that many services, of which each tenth is waiting.
func manyServices(n int) control.Status {
	status := control.Status{Overview: control.Overview{Synced: true, Contexts: []control.Context{{Name: "dev", Namespaces: []string{"many", "shop"}}}}}
	for i := range n {
		s := control.Service{Name: fmt.Sprintf("svc-%03d.many", i), Address: fmt.Sprintf("127.64.%d.%d", i/250, i%250), State: control.Ready, BytesDown: 1000, Connections: i % 2}
		if i%10 == 9 {
			s.State = control.Failed
		}
		status.Services = append(status.Services, s)
	}
	return status
}

// onPty returns a screen on a terminal of that many columns, and what is seen there.
func onPty(t *testing.T, columns int) (s *screen, resize func(int), seen *grid) {
	t.Helper()
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	terminal, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	seen = newGrid(t, columns)
	resize = func(columns int) {
		t.Helper()
		if err := pty.Setsize(tty, &pty.Winsize{Rows: 30, Cols: uint16(columns)}); err != nil {
			t.Fatal(err)
		}
		seen.resize(columns)
	}
	resize(columns)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for runes := bufio.NewReader(terminal); ; {
			r, _, err := runes.ReadRune()
			if err != nil {
				return
			}
			_, _ = seen.Write([]byte(string(r)))
		}
	}()
	t.Cleanup(func() {
		_ = tty.Close()
		<-read
		_ = terminal.Close()
	})
	return newScreen(tty), resize, seen
}

// await waits until the last lines are these, and returns all of them.
func (g *grid) await(t *testing.T, last string) string {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		seen := g.String()
		if strings.HasSuffix("\n"+seen, "\n"+last+"\n") {
			return seen
		}
		if time.Now().After(deadline) {
			t.Fatalf("it shows\n%s\nwant, in the end,\n%s", seen, last)
		}
		<-time.After(time.Millisecond)
	}
}

// cut is as much of a last line as there is room for.
func cut(text string, columns int) string {
	if runes := []rune(text); len(runes) > columns-3 {
		return string(runes[:columns-4]) + "…"
	}
	return text
}

// What a person sees in a terminal with a thousand services: testdata/view-*.golden. Then
// the terminal becomes narrower, and wider.
func TestViewInTerminal(t *testing.T) {
	for _, columns := range []int{60, 80, 200} {
		t.Run(strconv.Itoa(columns), func(t *testing.T) {
			shown, resize, seen := onPty(t, columns)
			d := &daemon{status: manyServices(0), changed: make(chan struct{})}
			d.status.Synced = false
			status := manyServices(1000)
			full, picture := summary(status, ""), ""
			err := shown.during(func() error {
				log := newLog(shown, formatText, 0)
				at := log.WithTime(time.Date(2025, 3, 1, 9, 30, 0, 0, time.UTC))
				v := viewOf(log)
				v.draw(d.lastLine())
				seen.await(t, cut("starting · reading dev · dev/many,shop", columns))
				at.Info("context dev (https://dev.example:6443), namespaces many, shop; bare names are those of many")
				for i, s := range status.Services {
					if i%10 == 9 {
						at.Warnf("+ %s  %s  no pods; port 80: in use by process 4711 (nginx), tried again every five seconds", s.Name, s.Address)
					} else {
						at.Infof("+ %s  %s:80  1/1 ready", s.Name, s.Address)
					}
				}
				at.Info("ready")
				d.set(status)
				over, ended := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(ended)
					v.run(over, d)
				}()
				for _, now := range []int{columns, columns - 17, columns + 20} {
					resize(now)
					seen.await(t, cut(full, now))
					at.Infof("~ svc-000.many  in %d columns", now)
					picture = seen.await(t, fmt.Sprintf("09:30:00 ~ svc-000.many  in %d columns\n%s", now, cut(full, now)))
				}
				close(over)
				<-ended
				at.Info("everything is taken back")
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			seen.await(t, "09:30:00 everything is taken back")
			path := filepath.Join("testdata", fmt.Sprintf("view-%d.golden", columns))
			if *update {
				if err := os.WriteFile(path, []byte(picture), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want, err := os.ReadFile(path); string(want) != picture {
				t.Errorf("it shows\n%s\nwant (%v)\n%s", picture, err, want)
			}
		})
	}
}

// A terminal that knows nothing but text gets just that.
func TestViewInDumbTerminal(t *testing.T) {
	for _, kind := range []string{"dumb", ""} {
		t.Setenv("TERM", kind)
		terminal, tty, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		shown := newScreen(tty)
		err = shown.during(func() error {
			log := newLog(shown, formatText, 0)
			viewOf(log).draw("the last line")
			log.WithTime(time.Date(2025, 3, 1, 9, 30, 0, 0, time.UTC)).Warn("wrong")
			viewOf(log).draw("")
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		text := make([]byte, 1000)
		n, err := terminal.Read(text)
		if got, want := string(text[:n]), "09:30:00 wrong\r\n"; got != want || err != nil {
			t.Errorf("TERM=%s: it gets %q, %v, want %q", kind, got, err, want)
		}
		_ = tty.Close()
		_ = terminal.Close()
	}
}
