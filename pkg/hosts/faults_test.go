package hosts

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var errInjected = errors.New("injected fault")

// changes are the ways in which a write can change a file: its content before and after, and
// that without the block.
var changes = map[string]struct{ before, next, withoutBlock string }{
	"grow":   {original, original + blockLines, original},
	"shrink": {original + blockLines, original + shortBlock, original},
	"remove": {original + blockLines, original, original},
	"move":   {original + blockLines + theirLine, original + shortBlock + theirLine, original + theirLine},
	"free":   {original + blockLines + theirLine, original + theirLine, original + theirLine},
}

const theirLine = "10.0.0.1 theirs\n"

var shortBlock = beginMarker(testOwner) + "\n127.64.0.1       a # kubeshore 1000\n" + endMarker(testOwner) + "\n"

// recordSteps returns the steps of a write from before to next.
func recordSteps(t *testing.T, before, next string, inPlace bool) []string {
	t.Helper()
	var all []string
	f, path := openWith(t, before)
	f.step = func(name string) error {
		all = append(all, name)
		return nil
	}
	if err := writeEither(t, f, path, next, inPlace); err != nil {
		t.Fatal(err)
	}
	return all
}

// openWith opens a hosts file with the given content.
func openWith(t *testing.T, content string) (*File, string) {
	t.Helper()
	f, path := openTestFile(t)
	if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
	return f, path
}

// writeEither replaces the content of the file, with a rename or in place.
func writeEither(t *testing.T, f *File, path, next string, inPlace bool) error {
	t.Helper()
	before := []byte(readFile(t, path))
	if inPlace {
		return overwrite(t, f, before, []byte(next))
	}
	return replace(f, before, []byte(next))
}

// eachStep calls test for each step of each change, with a rename and in place.
func eachStep(t *testing.T, test func(t *testing.T, before, next, withoutBlock, step string, inPlace bool)) {
	t.Helper()
	for name, c := range changes {
		for _, inPlace := range []bool{false, true} {
			all := recordSteps(t, c.before, c.next, inPlace)
			if len(all) < 2 {
				t.Fatalf("%s: got steps %q, want at least 2", name, all)
			}
			for _, step := range all {
				t.Run(fmt.Sprint(name, " ", map[bool]string{true: "in place ", false: ""}[inPlace], step), func(t *testing.T) {
					test(t, c.before, c.next, c.withoutBlock, step, inPlace)
				})
			}
		}
	}
}

// A write that fails at any step leaves the old content or the new one. It leaves no other
// file, except one that may have a concurrent write of another program.
func TestFailureAtEachStep(t *testing.T) {
	eachStep(t, func(t *testing.T, before, next, withoutBlock, step string, inPlace bool) {
		f, path := openWith(t, before)
		f.step = func(name string) error {
			if name == step {
				return errInjected
			}
			return nil
		}
		if err := writeEither(t, f, path, next, inPlace); err == nil || !strings.Contains(err.Error(), errInjected.Error()) {
			t.Fatalf("got %v, want %v", err, errInjected)
		}
		f.step = func(string) error { return nil }
		if got := readFile(t, path); got != before && (got != next || inPlace) && step != "truncate" {
			t.Errorf("got %q, want %q", got, before)
		}
		if left, _ := filepath.Glob(sidecarPath(path, "late-*")); exists(sidecarPath(path, "new")) || len(left) > 0 != (step == "read replaced") {
			t.Errorf("next to the file: temporary file %v, kept files %q", exists(sidecarPath(path, "new")), left)
		}
		mustSet(t, f, nil)
		wantContent(t, path, withoutBlock)
	})
}

// If a process is killed at any step, the next start or Clean removes its leftovers.
func TestKillAtEachStep(t *testing.T) {
	for _, then := range []string{"start", "clean"} {
		eachStep(t, func(t *testing.T, before, next, withoutBlock, step string, inPlace bool) {
			f, path := openWith(t, before)
			killAt(t, f, path, next, step, inPlace)
			if then == "clean" {
				if _, err := Clean(t.Context(), path); err != nil {
					t.Fatal(err)
				}
			} else {
				again, err := Open(path, testOwner)
				if err != nil {
					t.Fatal(err)
				}
				mustSet(t, again, testTable)
				mustSet(t, again, nil)
				if err := again.Close(); err != nil {
					t.Fatal(err)
				}
			}
			wantContent(t, path, withoutBlock)
			if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
				t.Errorf("directory: got %v, error %v; want only the hosts file", entries, err)
			}
		})
	}
}

// killAt writes the file, and stops at the given step as a killed process would.
func killAt(t *testing.T, f *File, path, next, step string, inPlace bool) {
	t.Helper()
	f.step = func(name string) error {
		if name == step {
			panic(errInjected)
		}
		return nil
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Fatalf("the write has no step %q", step)
			}
		}()
		_ = writeEither(t, f, path, next, inPlace)
	}()
	if err := f.ownerLock.file.Close(); err != nil { // the kernel does that
		t.Fatal(err)
	}
}

// A process that is killed during a write in place leaves the beginning of the new content,
// followed by the rest of the old one or by nothing. Removing the block from that restores
// the user's lines. Nothing else remains, except after the first write, which creates the
// block.
func TestKillDuringWriteInPlace(t *testing.T) {
	for name, c := range changes {
		for _, end := range []string{"\n", ""} {
			withoutBlock := strings.TrimSuffix(c.withoutBlock, "\n") + end
			if end == "" && c.before == original {
				c.before = withoutBlock
			}
			next, _, _, err := Rewrite([]byte(c.before), testOwner, map[bool]map[netip.Addr][]string{true: testTable, false: nil}[name == "grow"])
			if err != nil {
				t.Fatal(err)
			}
			if name != "grow" {
				next = []byte(c.next)
			}
			target := inPlaceLayout(next, testOwner, len(c.before))
			var states [][]byte
			written := padWithEmptyBlock(target, testOwner, len(c.before))
			addStates := func(old []byte) {
				for k := range written {
					states = append(states, slices.Concat(written[:k], old[min(k, len(old)):]))
				}
			}
			if !strings.HasPrefix(c.before, string(target)) { // otherwise it is only truncated
				addStates([]byte(c.before))
			}
			if len(target) > len(c.before) { // if the system can't preallocate space
				padded := padWithEmptyLines(appendBlock([]byte(c.before), testOwner, ""), len(target))
				for k := len(c.before); k < len(padded); k++ {
					states = append(states, padded[:k])
				}
				addStates(padded)
			}
			wrong := 0
			for _, state := range states {
				back, _, _, err := Rewrite(state, testOwner, nil)
				if err != nil {
					t.Fatal(err)
				}
				if !isRestored(string(back), withoutBlock, strings.HasSuffix(c.before, theirLine)) {
					if wrong++; wrong <= 3 {
						t.Errorf("%s: from %q got %q, want %q", name, state, back, withoutBlock)
					}
				}
			}
			if wrong > 0 {
				t.Errorf("%s: wrong in %d of %d states", name, wrong, len(states))
			}
		}
	}
}

// isRestored reports whether a file is as it was without the block. If the user's lines had
// to move, some may be there twice. If the first line of the block was being written, a line
// ending or a few bytes of a comment may be left.
func isRestored(got, withoutBlock string, moved bool) bool {
	if moved {
		for line := range strings.Lines(withoutBlock) {
			if !strings.Contains(got, strings.TrimSuffix(line, "\n")) {
				return false
			}
		}
		return true
	}
	rest, ok := strings.CutPrefix(got, withoutBlock)
	return ok && strings.HasPrefix(beginMarker(testOwner)[:len("# BEGIN ")], strings.TrimPrefix(rest, "\n"))
}

// A stopped process that holds the write lock makes Set fail after a timeout, with the
// process's ID. Set succeeds once the lock is released.
func TestSetGivesUpWaitingForTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "hosts")
		if err := os.WriteFile(path, []byte(original), 0o644); err != nil {
			t.Fatal(err)
		}
		file, err := Open(path, "me")
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		held, err := tryAcquire(path, "lock")
		if err != nil {
			t.Fatal(err)
		}
		table := map[netip.Addr][]string{netip.MustParseAddr("127.64.0.1"): {"web.shop"}}
		begin := time.Now()
		_, err = file.Set(t.Context(), table)
		if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) || time.Since(begin) > writeLockTimeout+time.Second {
			t.Errorf("got error %v after %v, want one with the process's ID after %v", err, time.Since(begin), writeLockTimeout)
		}
		if err := held.release(); err != nil {
			t.Fatal(err)
		}
		if _, err := file.Set(t.Context(), table); err != nil {
			t.Errorf("after the release: %v", err)
		}
	})
}
