//go:build !windows

package rootonly

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// nobody is a user other than root.
const nobody = 65534

// Whoever can write to a directory, a symbolic link or the file itself is reported.
func TestCheck(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to create files of several users")
	}
	top := t.TempDir() // in /tmp, which is sticky
	makeDir := func(name string, mode os.FileMode, owner int) string {
		t.Helper()
		path := filepath.Join(top, name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, owner, owner); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	makeFile := func(dir, name string, mode os.FileMode, owner int) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, owner, owner); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	link := func(target, path string, owner int) string {
		t.Helper()
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		if err := os.Lchown(path, owner, owner); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ours := makeDir("ours", 0o755, 0)
	theirs := makeDir("theirs", 0o755, nobody)
	group := makeDir("group", 0o775, 0)
	everyone := makeDir("everyone", 0o777, 0)
	sticky := makeDir("sticky", os.ModeSticky|0o777, 0)
	inSticky := makeDir("sticky/ours", 0o755, 0)
	theirsInSticky := makeDir("sticky/theirs", 0o755, nobody)
	file := makeFile(ours, "file", 0o644, 0)
	makeFile(theirs, "file", 0o644, 0)
	for _, c := range []struct{ path, dirs, file string }{
		{file, "", ""},
		{filepath.Join(ours, "missing"), "", "no such file"},
		{filepath.Join(ours, "missing", "file"), "no such file", "no such file"},
		{filepath.Join(file, "below"), "not a directory", "not a directory"},
		{"relative", "absolute", "absolute"},
		{filepath.Join(theirs, "file"), theirs + " belongs to user 65534", theirs + " belongs to user 65534"},
		{filepath.Join(theirs, "missing"), "belongs to user 65534", "belongs to user 65534"},
		{makeFile(group, "file", 0o644, 0), "group 0 can write to " + group, "group 0 can write to " + group},
		{makeFile(everyone, "file", 0o644, 0), "all users can write to " + everyone, "all users can write to " + everyone},
		{makeFile(sticky, "file", 0o644, 0), "all users can create files in " + sticky, "all users can create"},
		{filepath.Join(sticky, "missing"), "all users can create files in " + sticky, "all users can create"},
		{makeFile(inSticky, "file", 0o644, 0), "", ""},
		{makeFile(theirsInSticky, "file", 0o644, 0), theirsInSticky + " belongs to user 65534", "belongs to user 65534"},
		{makeFile(ours, "theirs", 0o644, nobody), "", "belongs to user 65534"},
		{makeFile(ours, "shared", 0o666, 0), "", "all users can write to"},
		{link(file, filepath.Join(ours, "link"), nobody), "", ""},
		{link("../ours/file", filepath.Join(inSticky, "link"), 0), "", ""},
		{link("../../ours/file", filepath.Join(inSticky, "up"), 0), "", ""},
		{link(file, filepath.Join(sticky, "link"), nobody), "link belongs to user 65534", "link belongs to user 65534"},
		{link(file, filepath.Join(sticky, "ourlink"), 0), "", ""},
		{link(theirs, filepath.Join(ours, "dir"), 0) + "/file", theirs + " belongs to user 65534", "belongs to user 65534"},
		{link("loop", filepath.Join(ours, "loop"), 0), "too many levels", "too many levels"},
		{link("missing", filepath.Join(ours, "dangling"), 0), "", "no such file"},
	} {
		for check, want := range map[string]struct {
			got  error
			want string
		}{"CheckDirs": {CheckDirs(c.path), c.dirs}, "CheckFile": {CheckFile(c.path), c.file}} {
			if want.want == "" && want.got != nil || want.want != "" && (want.got == nil || !strings.Contains(want.got.Error(), want.want)) {
				t.Errorf("%s(%s): got %v, want %q", check, c.path, want.got, want.want)
			}
		}
	}
}
