package term

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kubeshore/kubeshore/internal/controlserver"
	"github.com/kubeshore/kubeshore/internal/term/termtest"
	"github.com/kubeshore/kubeshore/pkg/control"
)

// No line is lost or torn by a rotation, however many goroutines write.
func TestLogFileRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "log")
	l, err := OpenLogFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const writers, lines = 4, 100
	l.max = writers*lines*8/2 + 8 // it rotates once
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range lines {
				if _, err := fmt.Fprintf(l, "%d-%05d\n", w, i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, path := range []string{path + ".1", path} {
		content, err := os.ReadFile(path)
		if err != nil || int64(len(content)) > l.max {
			t.Errorf("%s: got %d bytes, %v; want at most %d", path, len(content), err, l.max)
		}
		for line := range strings.Lines(string(content)) {
			seen[line] = true
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if len(seen) != writers*lines {
		t.Errorf("got %d lines, want %d", len(seen), writers*lines)
	}
	again, err := OpenLogFile(path)
	if err != nil || again.size == 0 {
		t.Errorf("reopened: got %d bytes, %v; want the old content", again.size, err)
	}
	_ = again.Close()
}

// If the file can neither be rotated nor written, its content is kept, and the number of
// lost lines is written when there is room again.
func TestLogFileCountsLostLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "log")
	l, err := OpenLogFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.max = 20
	fmt.Fprintln(l, "the first line")
	full := l.file
	broken, err := os.Open(path) // read-only
	if err != nil {
		t.Fatal(err)
	}
	defer broken.Close()
	if err := os.Rename(filepath.Dir(path), filepath.Dir(path)+".gone"); err != nil {
		t.Fatal(err)
	}
	l.file = broken
	for range 3 {
		fmt.Fprintln(l, "a line that is lost")
	}
	l.file = full
	fmt.Fprintln(l, "the last line")
	content, err := os.ReadFile(filepath.Dir(path) + ".gone/log")
	lines := strings.Split(string(content), "\n")
	if err != nil || len(lines) != 4 || lines[0] != "the first line" || !strings.HasPrefix(lines[1], "(3 lines lost: ") || lines[2] != "the last line" {
		t.Errorf("got %q, %v", lines, err)
	}
}

// A client that follows the log (kubeshore logs -f) gets every line once and in order,
// however often the file is rotated.
func TestLogIsFollowedAcrossRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	file, err := OpenLogFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	file.max = 4 << 10
	rotations := 0
	file.onReopen = func(*os.File) error { rotations++; return nil }
	journal := new(controlserver.Journal)
	log, _ := NewLog(file, Text, 0)
	log.AddHook(&WriteHook{journal, NewFormatter(Text, "-")})
	log.Info("line 0000")

	dir, err := os.MkdirTemp("", "term") // short, because a socket's path has to be
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := controlserver.Listen(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 2)
	server := &controlserver.Server{Version: "v1", Journal: journal}
	go func() { ended <- server.Serve(ctx, l) }()
	var seen termtest.Output
	go func() { ended <- control.NewClient(dir).Log(ctx, &seen, -1, true) }()
	seen.Await(t, "line 0000\"\n")

	const lines = 2000
	var want strings.Builder
	for i := range lines {
		log.Infof("line %04d", i+1)
		fmt.Fprintf(&want, "time=- level=info msg=\"line %04d\"\n", i+1)
	}
	if rotations < 10 {
		t.Errorf("got %d rotations, want at least 10", rotations)
	}
	seen.Await(t, want.String())
	for range 2 {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
