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

// at calls act once, before that step of a write.
func (f *File) onStep(step string, act func() error) {
	f.step = func(what string) error {
		if what != step {
			return nil
		}
		f.step = func(string) error { return nil }
		return act()
	}
}

// What is appended to the replaced file is kept, though the new one is changed as well
// before it is written again.
func TestFileTakesWhatComesLateToBoth(t *testing.T) {
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
	if got, want := readFile(t, path), original+blockLines+"10.0.0.2 later\n10.0.0.1 late\n"; got != want {
		t.Errorf("it has %q, want %q", got, want)
	}
}

// A file that another program puts there in the moment before ours is renamed is taken
// up, whole.
func TestFileTakesWhatWasRenamedMeanwhile(t *testing.T) {
	f, path := openTestFile(t)
	f.onStep("rename", func() error {
		return errors.Join(os.WriteFile(path+".sed", []byte("10.0.0.1 theirs\n"), 0o640), os.Rename(path+".sed", path))
	})
	mustSet(t, f, testTable)
	if got, want := readFile(t, path), "10.0.0.1 theirs\n"+blockLines; got != want {
		t.Errorf("it has %q, want %q", got, want)
	}
	if _, err := os.Stat(sidecarPath(path, "new")); err == nil {
		t.Error("the replaced file is left")
	}
}

// A program that has emptied the file to write it anew is waited for: what it has is
// not yet what it wants.
func TestFileWaitsForAProgramThatWrites(t *testing.T) {
	const anew = "# anew\n"
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
					_, err := writer.WriteString(anew)
					done <- errors.Join(err, writer.Close())
				}()
				return err
			})
			mustSet(t, f, testTable)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if got := readFile(t, path); got != anew+blockLines {
				t.Errorf("it has %q, want %q", got, anew+blockLines)
			}
		})
	}
}

// One that has it open without writing isn't waited for without end.
func TestFileIsOpenForLong(t *testing.T) {
	f, path := openTestFile(t)
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	begin := time.Now()
	mustSet(t, f, testTable)
	if took := time.Since(begin); took > 3*replacedWriterTimeout {
		t.Errorf("it took %v", took)
	}
	if got := readFile(t, path); got != original+blockLines {
		t.Errorf("it has %q", got)
	}
}

// What is written right after our own write is another's, and noticed.
func TestFileIsChangedRightAfter(t *testing.T) {
	f, path := openTestFile(t)
	runWatch(t, f)
	f.onStep("read replaced", func() error { return os.WriteFile(path, []byte(original), 0o644) })
	mustSet(t, f, testTable)
	<-f.Changed()
	mustSet(t, f, testTable)
	if got := readFile(t, path); got != original+blockLines {
		t.Errorf("it has %q", got)
	}
}

// In place, what others write waits until ours is written, and isn't cut off.
func TestFileInPlaceIsWrittenAlone(t *testing.T) {
	f, path := openTestFile(t)
	done := make(chan error, 1)
	f.onStep("overwrite", func() error {
		go func() { done <- appendTo(path, "10.0.0.1 late\n") }()
		select {
		case <-done:
			return errors.New("it doesn't wait")
		case <-time.After(4 * writerPollInterval):
			return nil
		}
	})
	if _, err := f.overwriteLocked(t.Context(), []byte(original), []byte(original+blockLines)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, path); got != original+blockLines+"10.0.0.1 late\n" {
		t.Errorf("it has %q", got)
	}
}

// afterLate has another program append a line to the file that is replaced, and then has
// act called once, before that step of what is written next.
func afterLate(t *testing.T, f *File, path, step string, act func() error) {
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

// What another program wrote into the replaced file is in the new one whatever comes
// between; else it is kept beside it.
func TestFileOwesWhatComesLate(t *testing.T) {
	t.Run("the caller has no patience", func(t *testing.T) {
		f, path := openTestFile(t)
		ctx, cancel := context.WithCancel(t.Context())
		afterLate(t, f, path, "", func() error { cancel(); return nil })
		if _, err := f.Set(ctx, testTable); err != nil {
			t.Fatal(err)
		}
		if got, want := readFile(t, path), original+"10.0.0.1 late\n"+blockLines; got != want {
			t.Errorf("it has %q, want %q", got, want)
		}
	})
	for _, step := range []string{"create", "sync", "rename"} {
		t.Run("the next write fails at "+step, func(t *testing.T) {
			f, path := openTestFile(t)
			afterLate(t, f, path, step, func() error { return unix.ENOSPC })
			if _, err := f.Set(t.Context(), testTable); !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
			if got, want := readFile(t, path), original+blockLines+"10.0.0.1 late\n"; got != want {
				t.Errorf("it has %q, want %q", got, want)
			}
			if left, _ := filepath.Glob(sidecarPath(path, "late-*")); len(left) > 0 {
				t.Errorf("beside it are %q", left)
			}
		})
	}
	t.Run("nothing can be written", func(t *testing.T) {
		f, path := openTestFile(t)
		afterLate(t, f, path, "create", func() error {
			return errors.Join(unix.EIO, os.Rename(path, path+".gone"))
		})
		_, err := f.Set(t.Context(), testTable)
		left, _ := filepath.Glob(sidecarPath(path, "late-*"))
		if err == nil || len(left) != 1 || !strings.Contains(err.Error(), left[0]) {
			t.Fatalf("%v, and there are %q", err, left)
		}
		if got, want := readFile(t, left[0]), original+"10.0.0.1 late\n"; got != want {
			t.Errorf("it is kept as %q, want %q", got, want)
		}
	})
	t.Run("it can't be told what came", func(t *testing.T) {
		f, _ := openTestFile(t)
		f.onStep("read replaced", func() error { return unix.EIO })
		if _, err := f.Set(t.Context(), testTable); err == nil {
			t.Fatal("nobody hears of it")
		}
		if suspects, err := f.Suspects(); err != nil || len(suspects) != 1 || !strings.Contains(suspects[0], "kubeshore-late-1") {
			t.Errorf("left are %q, %v", suspects, err)
		}
	})
}

// What is kept for one program isn't lost to the next.
func TestFileKeepsEach(t *testing.T) {
	f, path := openTestFile(t)
	for i := range 3 {
		f.onStep("read replaced", func() error {
			return errors.Join(unix.EIO, appendTo(sidecarPath(path, "new"), fmt.Sprintf("10.0.0.%d late\n", i)))
		})
		if _, err := f.Set(t.Context(), map[netip.Addr][]string{addr1: {fmt.Sprint("n", i)}}); err == nil {
			t.Fatal("nobody hears of it")
		}
	}
	kept, err := filepath.Glob(sidecarPath(path, "late-*"))
	if err != nil || len(kept) != 3 {
		t.Fatalf("there are %q, %v", kept, err)
	}
	for i, kept := range kept {
		if !strings.Contains(readFile(t, kept), fmt.Sprintf("10.0.0.%d late\n", i)) {
			t.Errorf("%s has %q", kept, readFile(t, kept))
		}
	}
}

// Of two programs that put a file there in that moment the later one's stays.
func TestFileGivesBackTheLatest(t *testing.T) {
	f, path := openTestFile(t)
	temp := sidecarPath(path, "new")
	if err := errors.Join(os.WriteFile(temp, []byte("the first one's\n"), 0o600), os.WriteFile(path, []byte("the second one's\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	ours, err := os.Stat(t.TempDir()) // it is at neither place
	if err != nil {
		t.Fatal(err)
	}
	if err := f.undoExchangeLocked(temp, ours); !errors.Is(err, errModified) {
		t.Error(err)
	}
	if got := readFile(t, path); got != "the second one's\n" || exists(temp) {
		t.Errorf("it has %q, and there is one beside it: %v", got, exists(temp))
	}
}

// A run that is killed while it looks back leaves the replaced file: if it has a line that
// the new one lacks, it is kept for people to look at.
func TestFileIsKilledWithSomethingLate(t *testing.T) {
	f, path := openTestFile(t)
	late, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	testKilled(t, f, path, original+blockLines, "read replaced", false)
	if _, err := late.WriteString("10.0.0.1 late\n"); err != nil {
		t.Fatal(err)
	}
	if err := late.Close(); err != nil {
		t.Fatal(err)
	}
	done, err := Clean(t.Context(), path)
	if err != nil || len(done.Suspects) != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
	if got, want := readFile(t, sidecarPath(path, "late-1")), original+"10.0.0.1 late\n"; got != want {
		t.Errorf("it is kept as %q, want %q", got, want)
	}
	if got := readFile(t, path); got != original {
		t.Errorf("the file has %q", got)
	}
}

// A link, or a file with another mode, that another program puts there in the moment of the
// exchange stays, whatever its content.
func TestFileLeavesWhatWasPutThereMeanwhile(t *testing.T) {
	t.Run("a link", func(t *testing.T) {
		f, path := openTestFile(t)
		target := filepath.Join(t.TempDir(), "target")
		f.onStep("rename", func() error {
			return errors.Join(os.WriteFile(target, []byte("10.0.0.1 theirs\n"), 0o600), os.Remove(path), os.Symlink(target, path))
		})
		if _, err := f.Set(t.Context(), testTable); err != nil {
			t.Log(err) // it may give up for now
		}
		if info, err := os.Lstat(path); err != nil || info.Mode()&os.ModeSymlink == 0 {
			t.Errorf("it is %v, %v", info.Mode(), err)
		}
		mustSet(t, f, testTable)
		if got := readFile(t, target); got != "10.0.0.1 theirs\n"+blockLines {
			t.Errorf("its target has %q", got)
		}
	})
	t.Run("another mode", func(t *testing.T) {
		f, path := openTestFile(t)
		f.onStep("rename", func() error {
			return errors.Join(os.WriteFile(path+".other", []byte(original), 0o604), os.Rename(path+".other", path))
		})
		mustSet(t, f, testTable)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o604 {
			t.Errorf("its mode is %v, %v", info.Mode(), err)
		}
	})
}

// A fault of the disk is no reason to write over the only good copy.
func TestFileIsNotOverwrittenAfterAFault(t *testing.T) {
	for _, step := range []string{"write", "sync", "rename"} {
		f, path := openTestFile(t)
		f.onStep(step, func() error { return unix.EIO })
		if _, err := f.Set(t.Context(), testTable); !errors.Is(err, unix.EIO) {
			t.Errorf("%s: %v", step, err)
		}
		if got := readFile(t, path); got != original {
			t.Errorf("%s: it has %q", step, got)
		}
	}
}
