package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// entries returns the files of a tar archive by name.
func entries(t *testing.T, data []byte) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[header.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWriteImageIsReproducible(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "hello")
	if err := os.WriteFile(program, []byte("a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	var archives [2][]byte
	for i := range archives {
		out := filepath.Join(dir, "images", "hello.tar")
		if err := writeImage(out, "example.test/hello:1", program); err != nil {
			t.Fatal(err)
		}
		var err error
		if archives[i], err = os.ReadFile(out); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two images of the same program differ")
	}
	files := entries(t, archives[0])
	var manifest []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(files["manifest.json"], &manifest); err != nil {
		t.Fatal(err)
	}
	var config struct {
		Config struct{ Entrypoint []string }
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	if err := json.Unmarshal(files[manifest[0].Config], &config); err != nil {
		t.Fatal(err)
	}
	layer := files[manifest[0].Layers[0]]
	sum := sha256.Sum256(layer)
	if config.RootFS.DiffIDs[0] != "sha256:"+hex.EncodeToString(sum[:]) {
		t.Errorf("got layer digest %s, want sha256:%x", config.RootFS.DiffIDs[0], sum)
	}
	if got := entries(t, layer)[config.Config.Entrypoint[0][1:]]; string(got) != "a program" {
		t.Errorf("got entrypoint content %q, want %q", got, "a program")
	}
}

// An image of a directory has its files, which everybody may read whatever the
// umask was, and no entrypoint.
func TestWriteImageOfDirectory(t *testing.T) {
	dir, out := t.TempDir(), filepath.Join(t.TempDir(), "files.tar")
	for name, mode := range map[string]os.FileMode{"bin/program": 0o700, "etc/passwd": 0o600} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeImage(out, "example.test/files:1", dir); err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	layer := entries(t, image)["layer.tar"]
	if got, want := modes(t, layer), map[string]int64{"bin/program": 0o755, "etc/passwd": 0o644}; !maps.Equal(got, want) {
		t.Errorf("got files and modes %v, want %v", got, want)
	}
	if got := string(entries(t, layer)["etc/passwd"]); got != "etc/passwd" {
		t.Errorf("got content %q, want %q", got, "etc/passwd")
	}
	if bytes.Contains(image, []byte("Entrypoint")) {
		t.Error("got an entrypoint, want none")
	}
}

// modes returns the modes of the files of a tar archive.
func modes(t *testing.T, data []byte) map[string]int64 {
	t.Helper()
	got := make(map[string]int64)
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		got[header.Name] = header.Mode
	}
}

func TestWriteImageFailsWithoutProgram(t *testing.T) {
	out := filepath.Join(t.TempDir(), "x.tar")
	if err := writeImage(out, "example.test/x:1", "no such program"); err == nil {
		t.Error("got no error, want one")
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("an image was written")
	}
}
