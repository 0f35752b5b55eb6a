package hosts

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// onStep calls act once, before the given step of a write.
func (f *File) onStep(step string, act func() error) {
	f.step = func(name string) error {
		if name != step {
			return nil
		}
		f.step = func(string) error { return nil }
		return act()
	}
}

// Lines that other programs append to the replaced file and to the new file are both kept, in the order of the writes.
func TestConcurrentWritesToOldAndNewFile(t *testing.T) {
	f, path := openTestFile(t)
	late, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.onStep("read replaced", func() error {
		_, err := late.WriteString("10.0.0.1 late")
		return errors.Join(err, late.Close(), appendTo(path, "10.0.0.2 later"))
	})
	mustSet(t, f, testTable)
	wantContent(t, path, original+"10.0.0.1 late\n10.0.0.2 later\n"+blockLines)
}

// If another program replaces the file just before the rename, its version is kept.
func TestReplacementBeforeRenameIsKept(t *testing.T) {
	f, path := openTestFile(t)
	f.onStep("rename", func() error {
		return errors.Join(os.WriteFile(path+".sed", []byte("10.0.0.1 theirs\n"), 0o640), os.Rename(path+".sed", path))
	})
	mustSet(t, f, testTable)
	wantContent(t, path, "10.0.0.1 theirs\n"+blockLines)
	if _, err := os.Stat(sidecarPath(path, "new")); err == nil {
		t.Error("the replaced file still exists")
	}
}

// A program that has truncated the file is given time to write its new content.
func TestWaitForTruncatingWriter(t *testing.T) {
	const rewritten = "# rewritten\n"
	for _, step := range []string{"compare", "rename", "read replaced"} {
		t.Run(step, func(t *testing.T) {
			f, path := openTestFile(t)
			writer, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			f.onStep(step, func() error {
				err := writer.Truncate(0)
				go func() {
					<-time.After(6 * writerPollInterval)
					_, err := writer.WriteString(rewritten)
					done <- errors.Join(err, writer.Close())
				}()
				return err
			})
			mustSet(t, f, testTable)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			wantContent(t, path, rewritten+blockLines)
		})
	}
}

// The wait for a program that has the file open without writing is limited.
func TestWaitForIdleWriterIsLimited(t *testing.T) {
	f, path := openTestFile(t)
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	begin := time.Now()
	mustSet(t, f, testTable)
	if took := time.Since(begin); took > 3*replacedWriterTimeout {
		t.Errorf("Set took %v, want at most %v", took, 3*replacedWriterTimeout)
	}
	wantContent(t, path, original+blockLines)
}

// A write by another program right after our own is reported by Changed.
func TestWriteRightAfterOursIsReported(t *testing.T) {
	f, path := openTestFile(t)
	runWatch(t, f)
	f.onStep("read replaced", func() error { return os.WriteFile(path, []byte(original), 0o644) })
	mustSet(t, f, testTable)
	<-f.Changed()
	mustSet(t, f, testTable)
	wantContent(t, path, original+blockLines)
}

// During a write in place, a writer in another process waits, and its line is kept.
func TestOtherWritersWaitForWriteInPlace(t *testing.T) {
	f, path := openTestFile(t)
	done := make(chan error, 1)
	f.onStep("overwrite", func() error {
		go func() { done <- appendTo(path, "10.0.0.1 late\n") }()
		select {
		case <-done:
			return errors.New("the other writer didn't wait")
		case <-time.After(4 * writerPollInterval):
			return nil
		}
	})
	if err := overwrite(t, f, []byte(original), []byte(original+blockLines)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantContent(t, path, original+blockLines+"10.0.0.1 late\n")
}

// appendConcurrently appends a line to the replaced file, as another program would, and
// calls act once: right after that, or before the given step of the next write.
func appendConcurrently(t *testing.T, f *File, path, step string, act func() error) {
	t.Helper()
	late, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.onStep("read replaced", func() error {
		_, err := late.WriteString("10.0.0.1 late\n")
		if step != "" {
			f.onStep(step, act)
		} else {
			err = errors.Join(err, act())
		}
		return errors.Join(err, late.Close())
	})
}

// A line that another program wrote to the replaced file gets into the new file even if a
// later step fails. If that isn't possible, a copy of it is kept next to the hosts file.
func TestConcurrentWriteSurvivesFailures(t *testing.T) {
	t.Run("the context ends", func(t *testing.T) {
		f, path := openTestFile(t)
		ctx, cancel := context.WithCancel(t.Context())
		appendConcurrently(t, f, path, "", func() error { cancel(); return nil })
		if _, err := f.Set(ctx, testTable); err != nil {
			t.Fatal(err)
		}
		wantContent(t, path, original+"10.0.0.1 late\n"+blockLines)
	})
	for _, step := range []string{"create", "sync", "rename"} {
		t.Run("the next write fails at step "+step, func(t *testing.T) {
			f, path := openTestFile(t)
			appendConcurrently(t, f, path, step, func() error { return unix.ENOSPC })
			if _, err := f.Set(t.Context(), testTable); !errors.Is(err, unix.ENOSPC) {
				t.Fatalf("got %v, want %v", err, unix.ENOSPC)
			}
			wantContent(t, path, original+blockLines+"10.0.0.1 late\n")
			if left, _ := filepath.Glob(sidecarPath(path, "late-*")); len(left) > 0 {
				t.Errorf("kept files: got %q, want none", left)
			}
		})
	}
	t.Run("no write is possible", func(t *testing.T) {
		f, path := openTestFile(t)
		appendConcurrently(t, f, path, "create", func() error {
			return errors.Join(unix.EIO, os.Rename(path, path+".gone"))
		})
		_, err := f.Set(t.Context(), testTable)
		left, _ := filepath.Glob(sidecarPath(path, "late-*"))
		if err == nil || len(left) != 1 || !strings.Contains(err.Error(), left[0]) {
			t.Fatalf("got error %v and kept files %q, want an error that names one kept file", err, left)
		}
		wantContent(t, left[0], original+"10.0.0.1 late\n")
		if err := os.Rename(path+".gone", path); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Set(t.Context(), testTable); err != nil {
			t.Fatal(err)
		}
		wantContent(t, left[0], original+"10.0.0.1 late\n") // a later write keeps it
	})
	t.Run("the replaced file can't be read", func(t *testing.T) {
		f, _ := openTestFile(t)
		f.onStep("read replaced", func() error { return unix.EIO })
		if _, err := f.Set(t.Context(), testTable); err == nil {
			t.Fatal("Set: got no error")
		}
		if suspects, err := f.Suspects(); err != nil || len(suspects) != 1 || !strings.Contains(suspects[0], "kubeshore-late-1") {
			t.Errorf("suspects: got %q, error %v; want one kept file", suspects, err)
		}
	})
}

// Each kept file has its own name.
func TestKeptFilesAreNotOverwritten(t *testing.T) {
	f, path := openTestFile(t)
	for i := range 3 {
		f.onStep("read replaced", func() error {
			return errors.Join(unix.EIO, appendTo(sidecarPath(path, "new"), fmt.Sprintf("10.0.0.%d late\n", i)))
		})
		if _, err := f.Set(t.Context(), map[netip.Addr][]string{addr1: {fmt.Sprint("n", i)}}); err == nil {
			t.Fatal("Set: got no error")
		}
	}
	kept, err := filepath.Glob(sidecarPath(path, "late-*"))
	if err != nil || len(kept) != 3 {
		t.Fatalf("kept files: got %q, error %v; want 3", kept, err)
	}
	for i, path := range kept {
		if !strings.Contains(readFile(t, path), fmt.Sprintf("10.0.0.%d late\n", i)) {
			t.Errorf("%s: got %q, want line %d", path, readFile(t, path), i)
		}
	}
}

// If two programs replace the file during the exchange, the later version is kept.
func TestUndoExchangeKeepsLatestVersion(t *testing.T) {
	f, path := openTestFile(t)
	temp := sidecarPath(path, "new")
	if err := errors.Join(os.WriteFile(temp, []byte("the first one's\n"), 0o600), os.WriteFile(path, []byte("the second one's\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	ours, err := os.Stat(t.TempDir()) // a file that is at neither path
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	err = f.undoExchangeLocked(temp, ours)
	f.mu.Unlock()
	if !errors.Is(err, errModified) {
		t.Errorf("got %v, want %v", err, errModified)
	}
	if got := readFile(t, path); got != "the second one's\n" || exists(temp) {
		t.Errorf("got %q, temporary file: %v; want the second version and no temporary file", got, exists(temp))
	}
}

// A process that is killed right after the rename leaves the replaced file. If that has a
// line that the new file lacks, the next process keeps it.
func TestConcurrentWriteSurvivesKill(t *testing.T) {
	f, path := openTestFile(t)
	late, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	killAt(t, f, path, original+blockLines, "read replaced", false)
	if _, err := late.WriteString("10.0.0.1 late\n"); err != nil {
		t.Fatal(err)
	}
	if err := late.Close(); err != nil {
		t.Fatal(err)
	}
	done, err := Clean(t.Context(), path)
	if err != nil || len(done.Suspects) != 1 {
		t.Fatalf("got %+v, error %v; want one suspect", done, err)
	}
	wantContent(t, sidecarPath(path, "late-1"), original+"10.0.0.1 late\n")
	wantContent(t, path, original)
}

// A symbolic link, or a file with another mode, that another program puts at the path during
// the exchange is kept.
func TestReplacementDuringExchangeIsKept(t *testing.T) {
	t.Run("symbolic link", func(t *testing.T) {
		f, path := openTestFile(t)
		target := filepath.Join(t.TempDir(), "target")
		f.onStep("rename", func() error {
			return errors.Join(os.WriteFile(target, []byte("10.0.0.1 theirs\n"), 0o600), os.Remove(path), os.Symlink(target, path))
		})
		if _, err := f.Set(t.Context(), testTable); err != nil {
			t.Log(err) // Set may fail this time
		}
		if info, err := os.Lstat(path); err != nil || info.Mode()&os.ModeSymlink == 0 {
			t.Errorf("got mode %v, error %v; want a symbolic link", info.Mode(), err)
		}
		mustSet(t, f, testTable)
		wantContent(t, target, "10.0.0.1 theirs\n"+blockLines)
	})
	t.Run("another mode", func(t *testing.T) {
		f, path := openTestFile(t)
		f.onStep("rename", func() error {
			return errors.Join(os.WriteFile(path+".other", []byte(original), 0o604), os.Rename(path+".other", path))
		})
		mustSet(t, f, testTable)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o604 {
			t.Errorf("got mode %v, error %v; want 0604", info.Mode(), err)
		}
	})
}

// After an I/O error the file is not written in place, because it is the only good copy.
func TestNoWriteInPlaceAfterIOError(t *testing.T) {
	for _, step := range []string{"write", "sync", "rename"} {
		f, path := openTestFile(t)
		f.onStep(step, func() error { return unix.EIO })
		if _, err := f.Set(t.Context(), testTable); !errors.Is(err, unix.EIO) {
			t.Errorf("%s: got %v, want %v", step, err, unix.EIO)
		}
		if got := readFile(t, path); got != original {
			t.Errorf("%s: got %q, want %q", step, got, original)
		}
	}
}
