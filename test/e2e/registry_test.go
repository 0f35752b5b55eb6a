//go:build e2e

package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

const (
	uploads   = 8
	layerSize = 16 << 20
)

// testRegistry uploads images in parallel, cancels many downloads, and
// downloads the images.
func (s servers) testRegistry(t *testing.T) {
	images := make([]image, uploads)
	for i := range images {
		images[i] = newImage(t, byte(i))
	}
	skopeo := func(from, to string) error {
		_, err := runClient(t.Context(), nil, "skopeo", "copy", "--quiet", "--insecure-policy", "--preserve-digests",
			"--src-tls-verify=false", "--dest-tls-verify=false", from, to)
		return err
	}
	reference := func(i int) string {
		return fmt.Sprintf("docker://%s:%d/image-%d:1", s.host("registry"), registryPort, i)
	}
	repeat(t, uploads, uploads, func(i int) error { return skopeo("oci:"+images[i].dir, reference(i)) })
	if t.Failed() {
		return
	}
	t.Run("canceled downloads", func(t *testing.T) {
		repeat(t, 200, 8, func(i int) error {
			return canceledDownload(t.Context(), fmt.Sprintf("http://%s:%d/v2/image-%d/blobs/%s",
				s.host("registry"), registryPort, i%uploads, images[i%uploads].layer), i%2 == 0)
		})
	})
	repeat(t, uploads, uploads, func(i int) error {
		dir := filepath.Join(t.TempDir(), "image")
		if err := skopeo(reference(i), "oci:"+dir); err != nil {
			return err
		}
		got, err := manifestDigest(dir) // skopeo has compared the digests of what it downloaded
		if err == nil && got != images[i].manifest {
			err = fmt.Errorf("image %d: got manifest %s, want %s", i, got, images[i].manifest)
		}
		return err
	})
}

// canceledDownload starts a download with curl and ends it after some bytes:
// it kills curl, or closes its output, so that curl closes the connection.
func canceledDownload(ctx context.Context, address string, kill bool) error {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	var stderr bytes.Buffer
	curl := exec.CommandContext(ctx, "curl", "--silent", "--show-error", "--fail", address)
	curl.Env, curl.Stderr = clientEnv(), &stderr
	stdout, err := curl.StdoutPipe()
	if err != nil {
		return err
	}
	if err := curl.Start(); err != nil {
		return err
	}
	got, err := io.CopyN(io.Discard, stdout, 100_000)
	if kill {
		_ = curl.Process.Kill()
	}
	_ = stdout.Close()
	_ = curl.Wait()
	if err != nil {
		return fmt.Errorf("%s: got %d bytes and %w, want 100000 bytes; standard error: %s", address, got, err, stderr.String())
	}
	return nil
}

// image is a directory with an image in the layout of the OCI image
// specification.
type image struct {
	dir             string
	layer, manifest string // digests
}

// newImage writes an image with one layer of random bytes, which depend on the
// seed.
func newImage(t *testing.T, seed byte) image {
	t.Helper()
	img := image{dir: t.TempDir()}
	blobs := filepath.Join(img.dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	put := func(content []byte) (digest string) {
		sum := fmt.Sprintf("%x", sha256.Sum256(content))
		writeFile(t, filepath.Join(blobs, sum), content)
		return "sha256:" + sum
	}
	layer, diffID := randomLayer(t, seed)
	img.layer = put(layer)
	config := marshal(t, map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": []string{diffID}},
	})
	descriptor := func(kind, digest string, size int) map[string]any {
		return map[string]any{"mediaType": "application/vnd.oci.image." + kind, "digest": digest, "size": size}
	}
	manifest := marshal(t, map[string]any{
		"schemaVersion": 2, "config": descriptor("config.v1+json", put(config), len(config)),
		"layers": []any{descriptor("layer.v1.tar+gzip", img.layer, len(layer))},
	})
	img.manifest = put(manifest)
	writeFile(t, filepath.Join(img.dir, "oci-layout"), []byte(`{"imageLayoutVersion": "1.0.0"}`))
	writeFile(t, filepath.Join(img.dir, "index.json"), marshal(t, map[string]any{
		"schemaVersion": 2, "manifests": []any{descriptor("manifest.v1+json", img.manifest, len(manifest))},
	}))
	return img
}

// randomLayer returns a layer in gzip's format, not compressed so that it costs
// little time, and the digest of its content.
func randomLayer(t *testing.T, seed byte) (layer []byte, digest string) {
	t.Helper()
	content := make([]byte, layerSize)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(content)
	var buf bytes.Buffer
	w, err := gzip.NewWriterLevel(&buf, gzip.NoCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), fmt.Sprintf("sha256:%x", sha256.Sum256(content))
}

// manifestDigest returns the digest of the manifest of an image in a directory.
func manifestDigest(dir string) (string, error) {
	content, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return "", err
	}
	var index struct{ Manifests []struct{ Digest string } }
	if err := json.Unmarshal(content, &index); err != nil {
		return "", err
	}
	if len(index.Manifests) != 1 {
		return "", fmt.Errorf("got index %s, want one manifest", content)
	}
	return index.Manifests[0].Digest, nil
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
