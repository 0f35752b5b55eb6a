package hosts

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A missing hosts file exists while it has names, and is removed with them: by the run that
// created it, by the next one or Clean after a kill, and by the last of two owners.
func TestMissingFileIsCreatedAndRemoved(t *testing.T) {
	open := func(t *testing.T, path, owner string) *File {
		t.Helper()
		f, err := Open(path, owner)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	other := map[netip.Addr][]string{addr2: {"other"}}
	for name, end := range map[string]func(t *testing.T, f *File, path string){
		"same run": func(t *testing.T, f *File, _ string) { mustSet(t, f, nil) },
		"next run": func(t *testing.T, f *File, path string) {
			_ = f.Close()
			mustSet(t, open(t, path, testOwner), nil)
		},
		"clean": func(t *testing.T, f *File, path string) {
			_ = f.Close()
			if result, err := Clean(t.Context(), path); err != nil || !slices.Equal(result.Owners, []string{testOwner}) {
				t.Errorf("Clean: got %+v, error %v", result, err)
			}
		},
		"guard": func(t *testing.T, f *File, path string) {
			_ = f.Close()
			if _, err := CleanOwner(t.Context(), path, testOwner); err != nil {
				t.Error(err)
			}
		},
		"first of two owners ends first": func(t *testing.T, f *File, path string) {
			second := open(t, path, "1001")
			mustSet(t, second, other)
			mustSet(t, f, nil)
			mustSet(t, second, nil)
		},
		"second of two owners ends first": func(t *testing.T, f *File, path string) {
			second := open(t, path, "1001")
			mustSet(t, second, other)
			mustSet(t, second, nil)
			mustSet(t, f, nil)
		},
		"the user deletes it": func(t *testing.T, f *File, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			mustSet(t, f, testTable)
			mustSet(t, f, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "hosts")
			f := open(t, path, testOwner)
			mustSet(t, f, nil)
			if exists(path) {
				t.Fatal("the file exists before the first names")
			}
			mustSet(t, f, testTable)
			if got := readFile(t, path); !strings.Contains(got, "go-ok.shop") {
				t.Fatalf("got %q, want the names", got)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
				t.Errorf("got mode %v, error %v; want 0644", info.Mode(), err)
			}
			end(t, f, path)
			if exists(path) || exists(sidecarPath(path, "new")) {
				t.Errorf("the file or its temporary file still exists: %q", readFile(t, path))
			}
		})
	}
}

// A file that kubeshore created stays if somebody else has written to it.
func TestCreatedFileWithLinesOfOthersStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	f, err := Open(path, testOwner)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mustSet(t, f, testTable)
	if err := os.WriteFile(path, []byte(readFile(t, path)+theirLine), 0o644); err != nil {
		t.Fatal(err)
	}
	mustSet(t, f, nil)
	wantContent(t, path, theirLine)
}

// A program that writes to the file while it is being removed loses nothing.
func TestRemovalKeepsConcurrentWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	f, err := Open(path, testOwner)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mustSet(t, f, testTable)
	f.step = func(name string) error {
		if name != "remove" {
			return nil
		}
		f.step = func(string) error { return nil }
		return os.WriteFile(path, []byte(readFile(t, path)+theirLine), 0o644)
	}
	mustSet(t, f, nil)
	wantContent(t, path, theirLine)
}

// Blocks of owners that aren't running are removed, e.g. one that WSL copied from Windows.
func TestCleanStale(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	windows := strings.ReplaceAll(blockLines, testOwner, "s-1-5-21-1004336348-1177238915-682003330-1013")
	running := strings.ReplaceAll(blockLines, testOwner, "1001")
	if err := os.WriteFile(path, []byte(original+windows+blockLines+running), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path, "1001")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	result, err := CleanStale(t.Context(), path, testOwner)
	if err != nil || len(result.Owners) != 1 || !slices.Equal(result.Running, []string{"1001"}) {
		t.Errorf("got %+v, error %v; want one removed owner, and 1001 running", result, err)
	}
	wantContent(t, path, original+blockLines+running)
}

// A file in UTF-16 is not changed.
func TestUTF16IsRefused(t *testing.T) {
	for _, mark := range []string{"\xff\xfe", "\xfe\xff"} {
		f, path := openWith(t, mark+"1\x002\x007\x00")
		if _, err := f.Set(t.Context(), testTable); !errors.Is(err, errUTF16) {
			t.Errorf("got %v, want %v", err, errUTF16)
		}
		wantContent(t, path, mark+"1\x002\x007\x00")
	}
}
