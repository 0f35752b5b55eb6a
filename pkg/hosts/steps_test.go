package hosts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

var errStep = errors.New("stopped here")

// steps returns the steps of a write from there to next.
func steps(t *testing.T, inPlace bool) []string {
	t.Helper()
	var all []string
	f, path := open(t)
	f.step = func(what string) error {
		all = append(all, what)
		return nil
	}
	write(t, f, path, original+blockLines, inPlace)
	return all
}

// write writes the file, and returns what came of it.
func write(t *testing.T, f *File, path, next string, inPlace bool) error {
	t.Helper()
	there := []byte(content(t, path))
	if inPlace {
		_, err := f.overwrite(there, []byte(next))
		return err
	}
	_, _, err := f.replace(there, []byte(next))
	return err
}

// A write that fails at any of its steps leaves the old content or the new one, and
// no other file.
func TestFileFailsAtEachStep(t *testing.T) {
	for _, inPlace := range []bool{false, true} {
		all := steps(t, inPlace)
		if len(all) < 4 {
			t.Fatal(all)
		}
		for _, at := range all {
			t.Run(fmt.Sprint(inPlace, at), func(t *testing.T) {
				f, path := open(t)
				f.step = func(what string) error {
					if what == at {
						return errStep
					}
					return nil
				}
				if err := write(t, f, path, original+blockLines, inPlace); !errors.Is(err, errStep) {
					t.Fatal(err)
				}
				if got := content(t, path); got != original && got != original+blockLines {
					t.Errorf("it has %q", got)
				}
				if _, err := os.Stat(hidden(path, "new")); err == nil {
					t.Error("the temporary file is left")
				}
			})
		}
	}
}

// A process that is killed at any of the steps leaves what the next start, or Clean,
// puts right.
func TestFileIsKilledAtEachStep(t *testing.T) {
	for _, inPlace := range []bool{false, true} {
		for _, at := range steps(t, inPlace) {
			for _, next := range []string{"start", "clean"} {
				t.Run(fmt.Sprint(inPlace, at, next), func(t *testing.T) { testKilled(t, inPlace, at, next) })
			}
		}
	}
}

func testKilled(t *testing.T, inPlace bool, at, then string) {
	f, path := open(t)
	f.step = func(what string) error {
		if what == at {
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
		_ = write(t, f, path, original+blockLines, inPlace)
	}()
	// What the deferred calls of a panic have removed, a killed process leaves.
	if err := os.WriteFile(hidden(path, "new"), []byte(blockLines[:20]), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.running.file.Close(); err != nil { // the kernel does that
		t.Fatal(err)
	}
	if then == "clean" {
		if _, err := Clean(t.Context(), path); err != nil {
			t.Fatal(err)
		}
	} else {
		again, err := Open(path, me)
		if err != nil {
			t.Fatal(err)
		}
		set(t, again, table)
		set(t, again, nil)
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := content(t, path); got != original {
		t.Errorf("it has %q", got)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("the folder has %v, %v; want the hosts file alone", entries, err)
	}
}

func TestClean(t *testing.T) {
	f, path := open(t)
	set(t, f, table)
	stray := "127.64.9.9 gone.shop.svc.cluster.local gone\n"
	begun := content(t, path)
	dead := beginMarker("1001") + "\n127.64.7.7 dead.shop\n" + endMarker("1001") + "\n"
	if err := os.WriteFile(path, []byte(begun+dead+stray), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"new", "lock-1001", "lock-1002"} {
		if err := os.WriteFile(hidden(path, kind), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	done, err := Clean(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(done.Owners, []string{"1001"}) || !slices.Equal(done.Running, []string{me}) || len(done.Files) != 1 || len(done.Left) != 1 {
		t.Errorf("it says %+v", done)
	}
	if got := content(t, path); got != begun+stray {
		t.Errorf("it has %q", got)
	}
	if done, err = Clean(t.Context(), path); err != nil || len(done.Owners)+len(done.Files) != 0 {
		t.Errorf("a second time it says %+v, %v", done, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if done, err = Clean(t.Context(), path); err != nil || !slices.Equal(done.Owners, []string{me}) {
		t.Errorf("after its end it says %+v, %v", done, err)
	}
}

func TestCleanOwnerWaits(t *testing.T) {
	f, path := open(t)
	set(t, f, table)
	cleaned := make(chan error, 1)
	go func() { cleaned <- CleanOwner(t.Context(), path, me) }()
	if got := content(t, path); got != original+blockLines {
		t.Errorf("while it runs it has %q", got)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-cleaned; err != nil {
		t.Fatal(err)
	}
	if got := content(t, path); got != original {
		t.Errorf("it has %q", got)
	}
}
