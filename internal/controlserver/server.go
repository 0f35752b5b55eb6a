// Package controlserver serves the API of package control on a unix socket: the status, its
// events, the log and the metrics.
package controlserver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/kubeshore/kubeshore/internal/dnsname"
	"github.com/kubeshore/kubeshore/pkg/control"
)

const (
	// maxRequestBody limits the size of a request's body, and of its header, in bytes.
	maxRequestBody = 64 << 10
	// requestHeaderTimeout limits the time to read a request's header.
	requestHeaderTimeout = 10 * time.Second
	// requestIdleTimeout is the time after which an idle connection is closed.
	requestIdleTimeout = time.Minute
	// chunkWriteTimeout limits the time to write writeChunk bytes.
	chunkWriteTimeout = 10 * time.Second
	// serverShutdownTimeout limits the time to complete open requests on shutdown.
	serverShutdownTimeout = time.Second
)

// Daemon is the running kubeshore. Its methods must be safe for concurrent use.
type Daemon interface {
	Status() control.Status
	// Changed returns a channel that is closed when the Status changes in anything but
	// traffic.
	Changed() <-chan struct{}
	// Ready checks whether the named services, or all, are ready, and whether their pods
	// can be reached.
	Ready(ctx context.Context, names []string) control.Readiness
	// AddNamespaces follows additional namespaces.
	AddNamespaces(control.NamespaceChange) error
	// RemoveNamespaces stops following namespaces.
	RemoveNamespaces(control.NamespaceChange) error
	// LogIn uses a credential. Its errors don't quote it.
	LogIn(control.Login) error
	// Stop initiates the shutdown, and doesn't wait for it.
	Stop()
}

// Server serves the API.
type Server struct {
	Version string
	Daemon  Daemon
	Journal *Journal
	Metrics http.Handler

	writeTimeout time.Duration // of a chunk; the default if zero
}

// Serve serves clients of this process's user and of root until ctx is done. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return serveHTTP(ctx, writeTimeoutListener{ownUserListener{l}, cmp.Or(s.writeTimeout, chunkWriteTimeout)}, s.handler())
}

// ServeMetrics serves metrics to all clients of l until ctx is done. It closes l.
// address is the one that the user configured; see [hostCheck].
func ServeMetrics(ctx context.Context, l net.Listener, address string, metrics http.Handler) error {
	return serveMetrics(ctx, writeTimeoutListener{l, chunkWriteTimeout}, address, metrics)
}

func serveMetrics(ctx context.Context, l writeTimeoutListener, address string, metrics http.Handler) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	return serveHTTP(ctx, l, newHostCheck(address, mux))
}

func serveHTTP(ctx context.Context, l writeTimeoutListener, handler http.Handler) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: requestHeaderTimeout,
		IdleTimeout:       requestIdleTimeout,
		MaxHeaderBytes:    maxRequestBody,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	var err error
	select {
	case err = <-served:
	case <-ctx.Done():
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), serverShutdownTimeout)
		defer cancel()
		if server.Shutdown(limited) != nil {
			_ = server.Close()
		}
		err = <-served
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// httpError is an error with the status code of its response.
type httpError struct {
	status int
	text   string
}

func (e httpError) Error() string { return e.text }

// handler returns the handler of all endpoints. A route's handle returns the body of its
// response, or nil if it has already responded.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	methods := make(map[string][]string)
	for _, r := range routes() {
		methods[r.path] = append(methods[r.path], r.method)
		mux.HandleFunc(r.method+" "+r.path, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set(control.VersionHeader, s.Version)
			req.Body = http.MaxBytesReader(w, req.Body, maxRequestBody)
			body, err := r.handle(s, w, req)
			if failed := (httpError{}); errors.As(err, &failed) {
				writeJSON(w, failed.status, control.ErrorResponse{Error: failed.text})
			} else if err == nil && body != nil {
				writeJSON(w, http.StatusOK, body)
			}
		})
	}
	for path, allowed := range methods {
		mux.HandleFunc(path, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set(control.VersionHeader, s.Version)
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			writeJSON(w, http.StatusMethodNotAllowed, control.ErrorResponse{Error: fmt.Sprintf("method %s is not allowed: use %s", req.Method, strings.Join(allowed, " or "))})
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set(control.VersionHeader, s.Version)
		writeJSON(w, http.StatusNotFound, control.ErrorResponse{Error: fmt.Sprintf("no such endpoint: %s %s", req.Method, req.URL.Path), UnknownEndpoint: true})
	})
	return mux
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // fails only if the client disconnected
}

func decodeBody(req *http.Request, into any) error {
	if err := json.NewDecoder(req.Body).Decode(into); err != nil {
		return httpError{http.StatusBadRequest, "invalid request body: " + err.Error()}
	}
	return nil
}

func (s *Server) status(http.ResponseWriter, *http.Request) (any, error) {
	return s.Daemon.Status(), nil
}

func (s *Server) service(_ http.ResponseWriter, req *http.Request) (any, error) {
	name := req.PathValue("name")
	service, ok := control.Find(s.Daemon.Status().Services, name)
	if !ok {
		return nil, httpError{http.StatusNotFound, fmt.Sprintf("service %q is unknown or ambiguous", name)}
	}
	return service, nil
}

func (s *Server) ready(w http.ResponseWriter, req *http.Request) (any, error) {
	var names []string
	if text := req.URL.Query().Get("service"); text != "" {
		names = strings.Split(text, ",")
	}
	r := s.Daemon.Ready(req.Context(), names)
	if !r.Ready {
		writeJSON(w, http.StatusServiceUnavailable, r)
		return nil, nil //nolint:nilnil // already responded
	}
	return r, nil
}

func (s *Server) stop(http.ResponseWriter, *http.Request) (any, error) {
	status := s.Daemon.Status()
	s.Daemon.Stop()
	status.Stopping = true
	return status, nil
}

func (s *Server) addNamespaces(_ http.ResponseWriter, req *http.Request) (any, error) {
	return s.changeNamespaces(req, s.Daemon.AddNamespaces)
}

func (s *Server) removeNamespaces(_ http.ResponseWriter, req *http.Request) (any, error) {
	return s.changeNamespaces(req, s.Daemon.RemoveNamespaces)
}

func (s *Server) changeNamespaces(req *http.Request, apply func(control.NamespaceChange) error) (any, error) {
	var change control.NamespaceChange
	if err := decodeBody(req, &change); err != nil {
		return nil, err
	}
	if len(change.Namespaces) == 0 {
		return nil, httpError{http.StatusBadRequest, "namespaces must not be empty"}
	}
	for _, name := range change.Namespaces {
		if !dnsname.IsLabel(name) {
			return nil, httpError{http.StatusBadRequest, fmt.Sprintf("invalid namespace %q: must be at most %d lowercase letters, digits and hyphens", name, dnsname.MaxLabel)}
		}
	}
	if s.Daemon.Status().Stopping {
		return nil, httpError{http.StatusConflict, "shutting down"}
	}
	if err := apply(change); err != nil {
		return nil, httpError{http.StatusConflict, err.Error()}
	}
	return s.Daemon.Status(), nil
}

func (s *Server) logIn(_ http.ResponseWriter, req *http.Request) (any, error) {
	var login control.Login
	if json.NewDecoder(req.Body).Decode(&login) != nil { // its error may quote the body
		return nil, httpError{http.StatusBadRequest, "invalid request body"}
	}
	if err := s.Daemon.LogIn(login); err != nil {
		return nil, httpError{http.StatusConflict, err.Error()}
	}
	return s.Daemon.Status(), nil
}

// stream is a response of unlimited length. It flushes after each write.
type stream struct {
	http.ResponseWriter
	controller *http.ResponseController
}

func newStream(w http.ResponseWriter, contentType string) stream {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Trailer", control.EndTrailer)
	w.WriteHeader(http.StatusOK)
	return stream{w, http.NewResponseController(w)}
}

// Write implements io.Writer.
func (s stream) Write(p []byte) (int, error) {
	n, err := s.ResponseWriter.Write(p)
	return n, errors.Join(err, s.controller.Flush())
}

// setEnd sets the stream's trailer, given the error that ended it.
func (s stream) setEnd(err error) {
	end := control.EndOrderly
	if errors.Is(err, control.ErrBehind) {
		end = control.EndBehind
	}
	s.Header().Set(control.EndTrailer, end)
}

func (s *Server) log(w http.ResponseWriter, req *http.Request) (any, error) {
	query := req.URL.Query()
	tail := -1
	if text := query.Get("tail"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return nil, httpError{http.StatusBadRequest, fmt.Sprintf("invalid tail %q: must be a number of lines", text)}
		}
		tail = n
	}
	follow := false
	if text := query.Get("follow"); text != "" {
		var err error
		if follow, err = strconv.ParseBool(text); err != nil {
			return nil, httpError{http.StatusBadRequest, fmt.Sprintf("invalid follow %q: must be true or false", text)}
		}
	}
	out := newStream(w, "text/plain; charset=utf-8")
	out.setEnd(s.Journal.CopyTo(req.Context(), out, tail, follow))
	return nil, nil //nolint:nilnil // already responded
}

func (s *Server) metrics(w http.ResponseWriter, req *http.Request) (any, error) {
	s.Metrics.ServeHTTP(w, req)
	return nil, nil //nolint:nilnil // already responded
}
