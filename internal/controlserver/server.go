// Package controlserver serves the API of package control: its endpoints on a unix socket,
// the journal of the log, and the metrics.
package controlserver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/kubeshore/kubeshore/pkg/control"
)

const (
	// maxRequestBody bounds what a request may say, in bytes.
	maxRequestBody = 64 << 10
	// requestHeaderTimeout is how long a request's head may take to come.
	requestHeaderTimeout = 10 * time.Second
	// chunkWriteTimeout is how long a reader may take for writeChunk bytes.
	chunkWriteTimeout = 10 * time.Second
	// serverShutdownTimeout is how long requests may take to end with the server.
	serverShutdownTimeout = time.Second
	// trafficInterval is how often those who follow events hear of traffic, if nothing else.
	trafficInterval = time.Second
	// keepAliveInterval is how long they hear nothing at most.
	keepAliveInterval = 15 * time.Second
)

// Daemon is what the server shows and steers. Its methods may be called by several
// goroutines at once.
type Daemon interface {
	Status() control.Status
	// Changed returns a channel that is closed when the Status, but for its traffic, is
	// other than now.
	Changed() <-chan struct{}
	// AddNamespaces follows namespaces besides those that it follows.
	AddNamespaces(control.NamespaceChange) error
	// RemoveNamespaces follows namespaces no more.
	RemoveNamespaces(control.NamespaceChange) error
	// Stop tells it to end. It returns at once.
	Stop()
}

// Server serves the API.
type Server struct {
	Version string
	Daemon  Daemon
	Journal *Journal
	Metrics http.Handler

	chunkWriteTimeout time.Duration // 0: the usual
}

// Serve serves those connections to l that are of this process's user, or root's, until
// ctx ends. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return serveHTTP(ctx, writeTimeoutListener{ownUserListener{l}, cmp.Or(s.chunkWriteTimeout, chunkWriteTimeout)}, s.handler())
}

// ServeMetrics serves metrics to everybody who can connect to l until ctx ends. It closes l.
func ServeMetrics(ctx context.Context, l net.Listener, metrics http.Handler) error {
	return serveMetrics(ctx, writeTimeoutListener{l, chunkWriteTimeout}, metrics)
}

func serveMetrics(ctx context.Context, l writeTimeoutListener, metrics http.Handler) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	return serveHTTP(ctx, l, mux)
}

func serveHTTP(ctx context.Context, l writeTimeoutListener, handler http.Handler) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: requestHeaderTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxRequestBody,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), serverShutdownTimeout)
		defer cancel()
		if server.Shutdown(limited) != nil {
			_ = server.Close()
		}
		err = <-ended
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// httpError is an error with the status to answer it with.
type httpError struct {
	status int
	text   string
}

func (p httpError) Error() string { return p.text }

// handler returns what answers requests.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	methods := make(map[string][]string)
	for _, r := range routes() {
		methods[r.path] = append(methods[r.path], r.method)
		mux.HandleFunc(r.method+" "+r.path, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set(control.VersionHeader, s.Version)
			req.Body = http.MaxBytesReader(w, req.Body, maxRequestBody)
			answer, err := r.handle(s, w, req)
			if wrong := (httpError{}); errors.As(err, &wrong) {
				writeJSON(w, wrong.status, control.ErrorResponse{Error: wrong.text})
			} else if err == nil && answer != nil {
				writeJSON(w, http.StatusOK, answer)
			}
		})
	}
	for path, allowed := range methods {
		mux.HandleFunc(path, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set(control.VersionHeader, s.Version)
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			writeJSON(w, http.StatusMethodNotAllowed, control.ErrorResponse{Error: fmt.Sprintf("%s: it takes %s", req.Method, strings.Join(allowed, ", "))})
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set(control.VersionHeader, s.Version)
		writeJSON(w, http.StatusNotFound, control.ErrorResponse{Error: fmt.Sprintf("no such endpoint: %s %s", req.Method, req.URL.Path), UnknownEndpoint: true})
	})
	return mux
}

func writeJSON(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // there is nobody else to tell
}

// decodeBody reads a request's body.
func decodeBody(req *http.Request, into any) error {
	if err := json.NewDecoder(req.Body).Decode(into); err != nil {
		return httpError{http.StatusBadRequest, "the request's body: " + err.Error()}
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
		return nil, httpError{http.StatusNotFound, fmt.Sprintf("no service is called %q, or more than one", name)}
	}
	return service, nil
}

func (s *Server) ready(w http.ResponseWriter, req *http.Request) (any, error) {
	var names []string
	if text := req.URL.Query().Get("service"); text != "" {
		names = strings.Split(text, ",")
	}
	r := control.ReadinessOf(s.Daemon.Status(), names)
	if !r.Ready {
		writeJSON(w, http.StatusServiceUnavailable, r)
		return nil, nil //nolint:nilnil // it is answered
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

// isLabel matches a DNS label (RFC 1123), which a namespace's name is.
var isLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

func (s *Server) changeNamespaces(req *http.Request, to func(control.NamespaceChange) error) (any, error) {
	var change control.NamespaceChange
	if err := decodeBody(req, &change); err != nil {
		return nil, err
	}
	if len(change.Namespaces) == 0 {
		return nil, httpError{http.StatusBadRequest, "namespaces: name one at least"}
	}
	for _, name := range change.Namespaces {
		if !isLabel.MatchString(name) {
			return nil, httpError{http.StatusBadRequest, fmt.Sprintf("namespaces: %q can't be a namespace's name: these are lower-case letters, digits and -, at most 63", name)}
		}
	}
	if s.Daemon.Status().Stopping {
		return nil, httpError{http.StatusConflict, "kubeshore is just ending"}
	}
	if err := to(change); err != nil {
		return nil, httpError{http.StatusConflict, err.Error()}
	}
	return s.Daemon.Status(), nil
}

// stream is an answer that goes on. Each write is sent at once.
type stream struct {
	http.ResponseWriter
	control *http.ResponseController
}

func newStream(w http.ResponseWriter, contentType string) stream {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Trailer", control.EndTrailer)
	w.WriteHeader(http.StatusOK)
	return stream{w, http.NewResponseController(w)}
}

func (s stream) Write(p []byte) (int, error) {
	n, err := s.ResponseWriter.Write(p)
	return n, errors.Join(err, s.control.Flush())
}

// setEnd says how the stream has ended: by itself, with the kubeshore, or by an error.
func (s stream) setEnd(err error) {
	how := control.EndOrderly
	if errors.Is(err, control.ErrBehind) {
		how = control.EndBehind
	}
	s.Header().Set(control.EndTrailer, how)
}

func (s *Server) log(w http.ResponseWriter, req *http.Request) (any, error) {
	query := req.URL.Query()
	tail := -1
	if text := query.Get("tail"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return nil, httpError{http.StatusBadRequest, fmt.Sprintf("tail=%s: not a number of lines", text)}
		}
		tail = n
	}
	follow := false
	if text := query.Get("follow"); text != "" {
		var err error
		if follow, err = strconv.ParseBool(text); err != nil {
			return nil, httpError{http.StatusBadRequest, fmt.Sprintf("follow=%s: neither true nor false", text)}
		}
	}
	out := newStream(w, "text/plain; charset=utf-8")
	out.setEnd(s.Journal.CopyTo(req.Context(), out, tail, follow))
	return nil, nil //nolint:nilnil // it is answered
}

func (s *Server) metrics(w http.ResponseWriter, req *http.Request) (any, error) {
	s.Metrics.ServeHTTP(w, req)
	return nil, nil //nolint:nilnil // it is answered
}
