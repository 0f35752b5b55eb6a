//go:build !windows

package daemon

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/internal/controlserver/servertest"
	"github.com/kubeshore/kubeshore/internal/logevent"
	"github.com/kubeshore/kubeshore/internal/term"
	"github.com/kubeshore/kubeshore/internal/term/termtest"
	"github.com/kubeshore/kubeshore/pkg/control"
)

var update = flag.Bool("update", false, "write the golden files")

// fakeSource is the status line of a fake daemon.
type fakeSource struct{ *servertest.Daemon }

func (s fakeSource) StatusLine() string {
	if status := s.Status(); !status.Synced {
		return statusLine(status, "reading dev")
	}
	return statusLine(s.Status(), "")
}

// manyServices returns a status with n services, of which each tenth has failed.
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

// cut returns a status line as it is cut in a terminal.
func cut(text string, columns int) string {
	if runes := []rune(text); len(runes) > columns-3 {
		return string(runes[:columns-4]) + "…"
	}
	return text
}

// The golden files have what a terminal shows of a thousand services, after it
// became narrower and then wider.
func TestViewInTerminal(t *testing.T) {
	for _, columns := range []int{60, 80, 200} {
		t.Run(strconv.Itoa(columns), func(t *testing.T) {
			tty, resize, grid := termtest.OpenPTY(t, columns)
			out, screen := term.NewAsyncWriter(tty), ""
			err := out.Run(func() error {
				screen = showServices(t, out, resize, grid, columns)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			grid.Await(t, "09:30:00 cleaned up")
			path := filepath.Join("testdata", fmt.Sprintf("view-%d.golden", columns))
			if *update {
				if err := os.WriteFile(path, []byte(screen), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want, err := os.ReadFile(path); string(want) != screen {
				t.Errorf("screen: got\n%s\nwant (%v)\n%s", screen, err, want)
			}
		})
	}
}

// showServices logs a thousand services, resizes the terminal, and returns the
// screen after that.
func showServices(t *testing.T, out *term.AsyncWriter, resize func(int), grid *termtest.Grid, columns int) (screen string) {
	status := manyServices(0)
	status.Synced = false
	source := fakeSource{servertest.NewDaemon(status)}
	log, view := term.NewLog(out, term.Text, 0)
	at := log.WithTime(time.Date(2025, 3, 1, 9, 30, 0, 0, time.UTC))
	view.SetStatus(source.StatusLine())
	grid.Await(t, cut("starting · reading dev · dev/many,shop", columns))
	at.Info("context dev (https://dev.example:6443), namespaces many, shop; short names resolve to namespace many")
	status = manyServices(1000)
	for i, s := range status.Services {
		if i%10 == 9 {
			logevent.With(at, logevent.Added).Warnf("+ %s  %s  no pods; port 80: in use by process 4711 (nginx), retrying every 5s", s.Name, s.Address)
		} else {
			logevent.With(at, logevent.Added).Infof("+ %s  %s:80  1/1 ready", s.Name, s.Address)
		}
	}
	at.Info("ready")
	source.Set(status)
	full := statusLine(status, "")
	done := make(chan struct{})
	var showing sync.WaitGroup
	showing.Go(func() { view.ShowStatus(done, source) })
	for _, width := range []int{columns, columns - 17, columns + 20} {
		resize(width)
		grid.Await(t, cut(full, width))
		logevent.With(at, logevent.Changed).Infof("~ svc-000.many  in %d columns", width)
		screen = grid.Await(t, fmt.Sprintf("09:30:00 ~ svc-000.many  in %d columns\n%s", width, cut(full, width)))
	}
	close(done)
	showing.Wait()
	at.Info("cleaned up")
	return screen
}
