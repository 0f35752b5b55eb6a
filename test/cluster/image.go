package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
)

// writeImage writes a docker-archive (the format of `docker save`) to out. The
// image has the given reference, a single layer with the static program, and
// the program as its entrypoint. The output is reproducible.
func writeImage(out, ref, program string) error {
	content, err := os.ReadFile(program)
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	entrypoint := "/" + filepath.Base(program)
	layer, err := archive([]file{{name: entrypoint[1:], mode: 0o755, content: content}})
	if err != nil {
		return err
	}
	diff := sha256.Sum256(layer)
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config":       map[string]any{"Entrypoint": []string{entrypoint}},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(diff[:])}},
	})
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	digest := sha256.Sum256(config)
	configName := hex.EncodeToString(digest[:]) + ".json"
	manifest, err := json.Marshal([]map[string]any{{
		"Config": configName, "RepoTags": []string{ref}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	image, err := archive([]file{
		{name: configName, mode: 0o644, content: config},
		{name: "layer.tar", mode: 0o644, content: layer},
		{name: "manifest.json", mode: 0o644, content: manifest},
	})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	return os.WriteFile(out, image, 0o644)
}

type file struct {
	name    string
	mode    int64
	content []byte
}

func archive(files []file) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		header := &tar.Header{Name: path.Clean(f.name), Mode: f.mode, Size: int64(len(f.content))}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("image: %w", err)
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, fmt.Errorf("image: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	return buf.Bytes(), nil
}
