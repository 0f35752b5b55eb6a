package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
)

// writeImage writes a docker-archive (the format of `docker save`) to out. The
// image has the given reference and a single layer: the static program source,
// which becomes the entrypoint, or the files of the directory source. The
// output is reproducible.
func writeImage(out, ref, source string) error {
	files, settings, err := layerFiles(source)
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	layer, err := archive(files)
	if err != nil {
		return err
	}
	diff := sha256.Sum256(layer)
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config":       settings,
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

// layerFiles returns the files of an image that is made from source, and the
// image's settings.
func layerFiles(source string) (files []file, settings map[string]any, err error) {
	info, err := os.Stat(source)
	if err != nil {
		return nil, nil, err
	}
	if !info.IsDir() {
		name := filepath.Base(source)
		content, err := os.ReadFile(source)
		return []file{{name: name, mode: 0o755, content: content}}, map[string]any{"Entrypoint": []string{"/" + name}}, err
	}
	dir := os.DirFS(source)
	err = fs.WalkDir(dir, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		mode := int64(0o644)
		if info.Mode()&0o100 != 0 {
			mode = 0o755
		}
		content, err := fs.ReadFile(dir, name)
		files = append(files, file{name: name, mode: mode, content: content})
		return err
	})
	return files, map[string]any{}, err
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
