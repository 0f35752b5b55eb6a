package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
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

func TestWriteImageFailsWithoutProgram(t *testing.T) {
	out := filepath.Join(t.TempDir(), "x.tar")
	if err := writeImage(out, "example.test/x:1", "no such program"); err == nil {
		t.Error("got no error, want one")
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("an image was written")
	}
}
