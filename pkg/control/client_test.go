package control

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
)

// shortDir returns a temporary directory whose path is short enough for a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestIncompatibleVersionIsReported(t *testing.T) {
	dir := shortDir(t)
	l, err := net.Listen("unix", SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set(VersionHeader, "v9")
		switch req.URL.Path {
		case "/v1/status":
			_, _ = io.WriteString(w, `{"services": "none"}`)
		case "/v1/stop":
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"error": "no such endpoint: POST /v1/stop", "unknownEndpoint": true}`)
		default:
			http.NotFound(w, req)
		}
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	c := NewClient(dir)
	_, err1 := c.Status(t.Context())
	_, err2 := c.Stop(t.Context())
	err3 := c.Events(t.Context(), func(Event) error { return nil })
	for _, err := range []error{err1, err2, err3} {
		want := fmt.Sprintf("an incompatible version is running (v9, pid %d)", os.Getpid())
		if err == nil || err.Error() != want {
			t.Errorf("got error %v, want %s", err, want)
		}
		wantHint := fmt.Sprintf("stop it with 'kill %d', then start kubeshore again", os.Getpid())
		if mismatch := new(VersionError); !errors.As(err, &mismatch) || mismatch.Hint() != wantHint {
			t.Errorf("got error %#v, want hint %s", err, wantHint)
		}
	}
}

// The listener accepts no connection, like a suspended process.
func TestUnresponsiveServerIsReported(t *testing.T) {
	t.Parallel() // takes responseTimeout
	dir := shortDir(t)
	l, err := net.Listen("unix", SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	_, err = NewClient(dir).Status(t.Context())
	if want := fmt.Sprintf("not responding (pid %d)", os.Getpid()); !errors.Is(err, ErrNotResponding) || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
}
