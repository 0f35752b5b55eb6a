package kube

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A hostile API server's endless response ends with an error that names the limit.
func TestEndlessResponsesEnd(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/denied" {
			w.WriteHeader(http.StatusForbidden)
		}
		chunk := make([]byte, 1<<20)
		for {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	const maxSize = 4 << 20
	client := &http.Client{Transport: bounded{server.Client().Transport, maxSize}}
	for _, c := range []struct {
		path, wantErr string
		wantSize      int64
	}{
		{"/list", "response of the API server exceeds 4 MiB", maxSize},
		{"/denied", "response of the API server exceeds 1 MiB", maxErrorResponseSize},
		{"/list?watch=true", "", 2 * maxSize},
	} {
		t.Run(c.path, func(t *testing.T) {
			resp, err := client.Get(server.URL + c.path)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			n, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 2*maxSize))
			if n != c.wantSize || (err == nil) != (c.wantErr == "") || err != nil && !strings.Contains(err.Error(), c.wantErr) {
				t.Errorf("got %d bytes and error %v, want %d and %q", n, err, c.wantSize, c.wantErr)
			}
		})
	}
}
