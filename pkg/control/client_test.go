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

// shortFolder returns a folder whose path is short, as a socket's must be.
func shortFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}

// A kubeshore of another version is said to be one.
func TestAnotherVersion(t *testing.T) {
	folder := shortFolder(t)
	l, err := net.Listen("unix", SocketPath(folder))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set(VersionHeader, "v9")
		if req.URL.Path == "/v1/status" {
			_, _ = io.WriteString(w, `{"services": "none"}`)
			return
		}
		http.NotFound(w, req)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	c := NewClient(folder)
	_, err1 := c.Status(t.Context())
	_, err2 := c.Stop(t.Context())
	err3 := c.Events(t.Context(), func(Event) error { return nil })
	for _, err := range []error{err1, err2, err3} {
		if err == nil || err.Error() != fmt.Sprintf("the kubeshore that runs is of another version (v9): end it with kill %d, and start it anew", os.Getpid()) {
			t.Error(err)
		}
	}
}

// One that is stopped is said to be there.
func TestNoAnswer(t *testing.T) {
	t.Parallel() // it takes its time
	folder := shortFolder(t)
	l, err := net.Listen("unix", SocketPath(folder))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if _, err := NewClient(folder).Status(t.Context()); !errors.Is(err, ErrNotResponding) {
		t.Error(err)
	}
}
