//go:build !windows

package tunnel

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Connections follow a certificate-authority file: one that is replaced counts for the
// next connection, one that is unusable leaves the previous one in force.
func TestAuthorityFileIsFollowed(t *testing.T) {
	for _, with := range []Transport{SPDY, WebSocket} {
		server := newAPIServer(t, nil)
		path := filepath.Join(t.TempDir(), "ca")
		write := func(content []byte) {
			t.Helper()
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		right := server.config().CAData
		wrong := selfSigned(t)
		config := server.config()
		config.CAData, config.CAFile = nil, path
		write(wrong)
		c := newTestCluster(t, config, with)
		if err := exchange(t.Context(), c); err == nil {
			t.Errorf("%v: a server with another authority is trusted", with)
		}
		for _, step := range []struct {
			content []byte
			works   bool
		}{{right, true}, {[]byte("half"), true}, {wrong, false}, {right, true}} {
			write(step.content)
			if err := exchange(t.Context(), c); (err == nil) != step.works {
				t.Errorf("%v: with authority %.20q: got %v, want success %t", with, step.content, err, step.works)
			}
		}
	}
}

// While the file can't be read, the previous authority counts, and one goroutine waits.
func TestHangingAuthorityFile(t *testing.T) {
	server := newAPIServer(t, nil)
	path := filepath.Join(t.TempDir(), "ca")
	config := server.config()
	if err := os.WriteFile(path, config.CAData, 0o600); err != nil {
		t.Fatal(err)
	}
	config.CAData, config.CAFile = nil, path
	c := newTestCluster(t, config, SPDY)
	if err := exchange(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	release := hang(t, path)
	before := runtime.NumGoroutine()
	var dials sync.WaitGroup
	for range 20 {
		dials.Go(func() { c.rereadAuthority(t.Context()) })
	}
	dials.Wait()
	if n := runtime.NumGoroutine() - before; n > 1 {
		t.Errorf("%d goroutines wait for the file, want at most 1", n)
	}
	if err := exchange(t.Context(), c); err != nil {
		t.Errorf("with the previous authority: %v", err)
	}
	release()
}

// selfSigned returns a certificate that nothing uses.
func selfSigned(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
}

// hang replaces the file at path by a pipe whose readers wait until release.
func hang(t *testing.T, path string) (release func()) {
	t.Helper()
	if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	return func() {
		writer, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		_ = writer.Close()
	}
}
