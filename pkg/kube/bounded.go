package kube

import (
	"fmt"
	"io"
	"net/http"
)

const (
	// maxResponseSize bounds a response of the API server, decompressed. A hundred
	// thousand pods are about as large.
	maxResponseSize = 512 << 20
	// maxErrorResponseSize bounds the response to a failed request.
	maxErrorResponseSize = 1 << 20
)

// bounded is a transport whose responses end with an error beyond a maximum size.
// Watches may last forever; client-go bounds each of their events.
type bounded struct {
	http.RoundTripper
	maxSize int64 // of a successful response
}

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	switch {
	case resp.StatusCode >= http.StatusMultipleChoices:
		resp.Body = &boundedBody{resp.Body, maxErrorResponseSize, maxErrorResponseSize}
	case req.URL.Query().Get("watch") == "":
		resp.Body = &boundedBody{resp.Body, b.maxSize, b.maxSize}
	}
	return resp, nil
}

// boundedBody is a body that returns an error beyond its maximum size.
type boundedBody struct {
	io.ReadCloser
	left, maxSize int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("response of the API server exceeds %d MiB", b.maxSize>>20)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
