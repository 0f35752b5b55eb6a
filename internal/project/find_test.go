package project

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func makeDir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func writeProject(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // regardless of the umask
		t.Fatal(err)
	}
}

// The search ends at the home directory and at the root of a repository, whose own
// files are found.
func TestFind(t *testing.T) {
	root := t.TempDir()
	home, repo := filepath.Join(root, "home"), filepath.Join(root, "home", "src", "repo")
	deep := filepath.Join(repo, "a", "b")
	makeDir(t, deep)
	expect := func(dir, want string) {
		t.Helper()
		if path, err := Find(dir, home); path != want || err != nil {
			t.Errorf("Find(%s): got %q, %v, want %q", dir, path, err, want)
		}
	}
	expect(deep, "")
	above := filepath.Join(root, Name)
	writeProject(t, above, "", 0o600)
	expect(deep, "")
	expect(root, above)
	inHome := filepath.Join(home, Name)
	writeProject(t, inHome, "", 0o600)
	expect(deep, inHome)
	expect(home, inHome)
	makeDir(t, filepath.Join(repo, ".git"))
	expect(deep, "")
	inRepo := filepath.Join(repo, Name)
	writeProject(t, inRepo, "", 0o600)
	expect(deep, inRepo)
}

// A file that was found has to be a small regular file that others can't write, and
// have this user's links only.
func TestLoadFound(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, Name)
	for mode, want := range map[os.FileMode]string{
		0o600: "", 0o644: "", 0o444: "",
		0o646: "can be changed by other users (mode 0646)", 0o666: "can be changed by other users (mode 0666)", 0o777: "can be changed",
	} {
		writeProject(t, path, "domain: a", mode)
		if file, _, err := LoadFound(path); want == "" && (err != nil || file.Domain != "a") || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("mode %#o: got %+v, %v, want error %q", mode, file, err, want)
		}
	}
	writeProject(t, path, "domain: a", 0o600)
	_, sum, err := LoadFound(path)
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, other, err := LoadFound(link); err != nil || other == sum {
		t.Errorf("a link: got sum %s, %v, want another one than the file's", other, err)
	}
	writeProject(t, path, strings.Repeat("#", maxFileSize)+"\n", 0o600)
	if _, _, err := LoadFound(path); err == nil || !strings.Contains(err.Error(), "has more than 131072 bytes") {
		t.Errorf("a large file: got %v", err)
	}
	if _, _, err := LoadFound(dir); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: got %v", err)
	}
}

// A confirmation is for one path and one content. The file with them is private.
func TestAllowed(t *testing.T) {
	allowed := Allowed(filepath.Join(t.TempDir(), "state", "allowed"))
	one, other := sumOf("/a", []byte("x")), sumOf("/b", []byte("x"))
	if known, err := allowed.Has(one); known || err != nil {
		t.Errorf("without a file: got %v, %v", known, err)
	}
	for range 2 {
		if err := allowed.Add(one, "/a\n"+other); err != nil {
			t.Fatal(err)
		}
	}
	for sum, want := range map[string]bool{one: true, other: false, sumOf("/a", []byte("y")): false, "": false} {
		if known, err := allowed.Has(sum); known != want || err != nil {
			t.Errorf("%s: got %v, %v, want %v", sum, known, err, want)
		}
	}
	info, err := os.Stat(string(allowed))
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() > 200 {
		t.Errorf("file: got %v, %v, want one line, mode 0600", info, err)
	}
}
