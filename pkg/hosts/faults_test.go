package hosts

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var errStep = errors.New("stopped here")

// changes are what a write may do, with a block or without, and what is the user's.
var changes = map[string]struct{ there, next, bare string }{
	"grow":   {original, original + blockLines, original},
	"shrink": {original + blockLines, original + shortBlock, original},
	"remove": {original + blockLines, original, original},
	"move":   {original + blockLines + theirLine, original + shortBlock + theirLine, original + theirLine},
	"free":   {original + blockLines + theirLine, original + theirLine, original + theirLine},
}

const theirLine = "10.0.0.1 theirs\n"

var shortBlock = beginMarker(testOwner) + "\n127.64.0.1       a # kubeshore 1000\n" + endMarker(testOwner) + "\n"

// steps returns the steps of a write from there to next.
func recordSteps(t *testing.T, there, next string, inPlace bool) []string {
	t.Helper()
	var all []string
	f, path := openWith(t, there)
	f.step = func(what string) error {
		all = append(all, what)
		return nil
	}
	if err := writeEither(t, f, path, next, inPlace); err != nil {
		t.Fatal(err)
	}
	return all
}

// openWith opens a hosts file that has a content.
func openWith(t *testing.T, there string) (*File, string) {
	t.Helper()
	f, path := openTestFile(t)
	if err := os.WriteFile(path, []byte(there), 0o640); err != nil {
		t.Fatal(err)
	}
	return f, path
}

// write writes the file, and returns what came of it.
func writeEither(t *testing.T, f *File, path, next string, inPlace bool) error {
	t.Helper()
	there := []byte(readFile(t, path))
	if inPlace {
		_, err := f.overwriteLocked(t.Context(), there, []byte(next))
		return err
	}
	_, _, err := f.replaceLocked(there, []byte(next))
	return err
}

// eachStep calls test for each step of each change, written either way.
func eachStep(t *testing.T, test func(t *testing.T, there, next, bare, step string, inPlace bool)) {
	t.Helper()
	for name, c := range changes {
		for _, inPlace := range []bool{false, true} {
			all := recordSteps(t, c.there, c.next, inPlace)
			if len(all) < 2 {
				t.Fatal(name, all)
			}
			for _, step := range all {
				t.Run(fmt.Sprint(name, " ", map[bool]string{true: "in place ", false: ""}[inPlace], step), func(t *testing.T) {
					test(t, c.there, c.next, c.bare, step, inPlace)
				})
			}
		}
	}
}

// A write that fails at any of its steps leaves the old content or the new one, and
// no other file, but for one that may have what another program wrote.
func TestFileFailsAtEachStep(t *testing.T) {
	eachStep(t, func(t *testing.T, there, next, bare, step string, inPlace bool) {
		f, path := openWith(t, there)
		f.step = func(what string) error {
			if what == step {
				return errStep
			}
			return nil
		}
		if err := writeEither(t, f, path, next, inPlace); err == nil || !strings.Contains(err.Error(), errStep.Error()) {
			t.Fatal(err)
		}
		f.step = func(string) error { return nil }
		if got := readFile(t, path); got != there && (got != next || inPlace) && step != "truncate" {
			t.Errorf("it has %q", got)
		}
		if left, _ := filepath.Glob(sidecarPath(path, "late-*")); exists(sidecarPath(path, "new")) || len(left) > 0 != (step == "read replaced") {
			t.Errorf("beside it are %q", left)
		}
		mustSet(t, f, nil)
		if got := readFile(t, path); got != bare {
			t.Errorf("without the block it has %q, want %q", got, bare)
		}
	})
}

// A process that is killed at any of the steps leaves what the next start, or Clean,
// puts right.
func TestFileIsKilledAtEachStep(t *testing.T) {
	for _, then := range []string{"start", "clean"} {
		eachStep(t, func(t *testing.T, there, next, bare, step string, inPlace bool) {
			f, path := openWith(t, there)
			testKilled(t, f, path, next, step, inPlace)
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
			if got := readFile(t, path); got != bare {
				t.Errorf("it has %q, want %q", got, bare)
			}
			if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
				t.Errorf("the folder has %v, %v; want the hosts file alone", entries, err)
			}
		})
	}
}

// testKilled writes the file, and ends in the middle of that.
func testKilled(t *testing.T, f *File, path, next, step string, inPlace bool) {
	t.Helper()
	f.step = func(what string) error {
		if what == step {
			panic(errStep)
		}
		return nil
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Fatal("it got through")
			}
		}()
		_ = writeEither(t, f, path, next, inPlace)
	}()
	if err := f.ownerLock.file.Close(); err != nil { // the kernel does that
		t.Fatal(err)
	}
}

// A process that is killed in the middle of a write in place leaves some of what it
// wrote, and then what was there, or nothing. Of a block at the end, which all but the
// first write has, nothing is left in the end, and of the user's lines none is lost.
func TestFileIsKilledInTheMiddle(t *testing.T) {
	for name, c := range changes {
		for _, end := range []string{"\n", ""} {
			bare := strings.TrimSuffix(c.bare, "\n") + end
			if end == "" && c.there == original {
				c.there = bare
			}
			next, _, _, err := Rewrite([]byte(c.there), testOwner, map[bool]map[netip.Addr][]string{true: testTable, false: nil}[name == "grow"])
			if err != nil {
				t.Fatal(err)
			}
			if name != "grow" {
				next = []byte(c.next)
			}
			target := inPlaceLayout(next, testOwner, len(c.there))
			var states [][]byte
			written := padWithEmptyBlock(target, testOwner, len(c.there))
			over := func(old []byte) {
				for k := range written {
					states = append(states, slices.Concat(written[:k], old[min(k, len(old)):]))
				}
			}
			if !strings.HasPrefix(c.there, string(target)) { // else it is cut at once
				over([]byte(c.there))
			}
			if len(target) > len(c.there) { // where no room can be had without writing there
				room := padWithEmptyLines(appendBlock([]byte(c.there), testOwner, ""), len(target))
				for k := len(c.there); k < len(room); k++ {
					states = append(states, room[:k])
				}
				over(room)
			}
			wrong := 0
			for _, state := range states {
				back, _, _, err := Rewrite(state, testOwner, nil)
				if err != nil {
					t.Fatal(err)
				}
				if !isRestored(string(back), bare, strings.HasSuffix(c.there, theirLine)) {
					if wrong++; wrong <= 3 {
						t.Errorf("%s: of %q it leaves %q, want %q", name, state, back, bare)
					}
				}
			}
			if wrong > 0 {
				t.Errorf("%s: wrong in %d of %d states", name, wrong, len(states))
			}
		}
	}
}

// isRestored tells whether a file is as it was without a block. Where the user's lines
// had to move there may be more of them; and where the very first line of ours was being
// written there may be a line end, or a few bytes of a comment.
func isRestored(got, bare string, moved bool) bool {
	if moved {
		for line := range strings.Lines(bare) {
			if !strings.Contains(got, strings.TrimSuffix(line, "\n")) {
				return false
			}
		}
		return true
	}
	rest, ok := strings.CutPrefix(got, bare)
	return ok && strings.HasPrefix(beginMarker(testOwner)[:len("# BEGIN ")], strings.TrimPrefix(rest, "\n"))
}

func TestClean(t *testing.T) {
	f, path := openTestFile(t)
	mustSet(t, f, testTable)
	stray := "127.64.9.9 gone.shop.svc.cluster.local gone\n"
	begun := readFile(t, path)
	dead := beginMarker("1001") + "\n127.64.7.7 dead.shop # kubeshore 1001\n" + endMarker("1001") + "\n"
	if err := os.WriteFile(path, []byte(begun+dead+stray), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"new", "lock-1001", "lock-1002"} {
		if err := os.WriteFile(sidecarPath(path, kind), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	done, err := Clean(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(done.Owners, []string{"1001"}) || !slices.Equal(done.Running, []string{testOwner}) || len(done.Files) != 1 || len(done.Suspects) != 1 {
		t.Errorf("it says %+v", done)
	}
	if got := readFile(t, path); got != begun+stray {
		t.Errorf("it has %q", got)
	}
	if done, err = Clean(t.Context(), path); err != nil || len(done.Owners)+len(done.Files) != 0 {
		t.Errorf("a second time it says %+v, %v", done, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if done, err = Clean(t.Context(), path); err != nil || !slices.Equal(done.Owners, []string{testOwner}) {
		t.Errorf("after its end it says %+v, %v", done, err)
	}
}

// What can't be taken away isn't said to have been.
func TestCleanSaysWhatIsSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	const text = "# BEGIN kubeshore 1000\n127.64.9.9 gone.shop.svc.cluster.local\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	done, err := Clean(t.Context(), path)
	if err != nil || len(done.Owners)+len(done.Addresses) > 0 || len(done.Suspects) != 2 {
		t.Errorf("it says %+v, %v", done, err)
	}
	if got := readFile(t, path); got != text {
		t.Errorf("it has %q", got)
	}
}

func TestCleanOwnerWaits(t *testing.T) {
	f, path := openTestFile(t)
	mustSet(t, f, testTable)
	cleaned := make(chan error, 1)
	go func() {
		addresses, err := CleanOwner(t.Context(), path, testOwner)
		if !slices.Equal(addresses, []netip.Addr{addr1, addr2}) {
			err = errors.Join(err, fmt.Errorf("addresses %v", addresses))
		}
		cleaned <- err
	}()
	if got := readFile(t, path); got != original+blockLines {
		t.Errorf("while it runs it has %q", got)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-cleaned; err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, path); got != original {
		t.Errorf("it has %q", got)
	}
}
