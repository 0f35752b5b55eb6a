package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kubeshore/kubeshore/internal/controlserver"
	"github.com/kubeshore/kubeshore/pkg/control"
)

// No line is lost or torn where the file becomes the old one, however many write.
func TestLogFileRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "log")
	l, err := openLogFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const writers, lines = 4, 100
	l.max = writers*lines*8/2 + 8 // it is full once
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
			t.Errorf("%s has %d bytes, %v", path, len(content), err)
		}
		for line := range strings.Lines(string(content)) {
			seen[line] = true
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if len(seen) != writers*lines {
		t.Errorf("it has %d lines of %d", len(seen), writers*lines)
	}
	again, err := openLogFile(path) // goes on where it was
	if err != nil || again.size == 0 {
		t.Errorf("opened again it has %d bytes, %v", again.size, err)
	}
	_ = again.Close()
}

// Where it can't become the old one, as its folder is gone, and can't be written either,
// nothing that it has is lost, and how many lines are missing is said once there is room.
func TestLogFileWithoutRoom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "log")
	l, err := openLogFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.max = 20
	fmt.Fprintln(l, "the first line")
	full := l.file
	broken, err := os.Open(path) // not for writing
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
	if err != nil || len(lines) != 4 || lines[0] != "the first line" || !strings.HasPrefix(lines[1], "(lines that are missing here: 3, as of ") || lines[2] != "the last line" {
		t.Errorf("it has %q, %v", lines, err)
	}
}

// Who follows the log, as logs -f does, sees every line once, in their order, however often
// the file becomes the old one meanwhile.
func TestLogIsFollowedAcrossRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	file, err := openLogFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	file.max = 4 << 10
	rotations := 0
	file.opened = func(*os.File) error { rotations++; return nil }
	journal := new(controlserver.Journal)
	log := newLog(file, formatText, 0)
	log.AddHook(&writeHook{journal, newFormatter(formatText, "-")})
	log.Info("line 0000")

	folder, err := os.MkdirTemp("", "cli") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(folder)
	l, err := controlserver.Listen(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 2)
	server := &controlserver.Server{Version: "v1", Journal: journal}
	go func() { ended <- server.Serve(ctx, l) }()
	var seen output
	go func() { ended <- control.NewClient(folder).Log(ctx, &seen, -1, true) }()
	seen.await(t, "line 0000\"\n")

	const lines = 2000
	var want strings.Builder
	for i := range lines {
		log.Infof("line %04d", i+1)
		fmt.Fprintf(&want, "time=- level=info msg=\"line %04d\"\n", i+1)
	}
	if rotations < 10 {
		t.Errorf("the file has become the old one %d times", rotations)
	}
	seen.await(t, want.String())
	for range 2 {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
