package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/kubeshore/kubeshore/internal/peer"
)

const (
	// VersionHeader is the header of each answer that has the kubeshore's version.
	VersionHeader = "Kubeshore-Version"
	// noSuchPath begins the fault of a path that this version doesn't have.
	noSuchPath = "there is no"
	// maxBody bounds what a request may say, in bytes.
	maxBody = 64 << 10
	// writeTime is how long a reader may take for what it is sent at once.
	writeTime = 10 * time.Second
	// endTime is how long requests may take to end with the server.
	endTime = time.Second
	// pulse is how often those who follow events hear of traffic, if nothing else.
	pulse = time.Second
	// silence is how long they hear nothing at most.
	silence = 15 * time.Second
)

// Daemon is what the server shows and steers. Its methods may be called by several
// goroutines at once.
type Daemon interface {
	Status() Status
	// Changed returns a channel that is closed when the Status, but for its traffic, is
	// other than now.
	Changed() <-chan struct{}
	// AddNamespaces follows namespaces besides those that it follows.
	AddNamespaces(NamespaceChange) error
	// RemoveNamespaces follows namespaces no more.
	RemoveNamespaces(NamespaceChange) error
	// Stop tells it to end. It returns at once.
	Stop()
}

// Server serves the API.
type Server struct {
	Version string
	Daemon  Daemon
	Journal *Journal
	Metrics http.Handler
}

// Serve serves those connections to l that are of this process's user, or root's, until
// ctx ends. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: writeTime,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxBody,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ownListener{l}) }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
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

// ownListener refuses connections of other users. The socket's mode and its folder's do
// that too.
type ownListener struct{ net.Listener }

func (l ownListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if isOwn(conn) {
			return conn, nil
		}
		_ = conn.Close()
	}
}

func isOwn(conn net.Conn) bool {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return false
	}
	uid, err := peer.UID(unixConn)
	return errors.Is(err, errors.ErrUnsupported) || err == nil && (uid == os.Geteuid() || uid == 0)
}

// problem is an error with the status to answer it with.
type problem struct {
	status int
	text   string
}

func (p problem) Error() string { return p.text }

// handler returns what answers requests.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range routes() {
		mux.HandleFunc(r.method+" "+r.path, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set(VersionHeader, s.Version)
			req.Body = http.MaxBytesReader(w, req.Body, maxBody)
			answer, err := r.handle(s, w, req)
			if wrong := (problem{}); errors.As(err, &wrong) {
				reply(w, wrong.status, Fault{wrong.text})
			} else if err == nil && answer != nil {
				reply(w, http.StatusOK, answer)
			}
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set(VersionHeader, s.Version)
		reply(w, http.StatusNotFound, Fault{fmt.Sprintf("%s %s %s in the API of kubeshore %s", noSuchPath, req.Method, req.URL.Path, s.Version)})
	})
	return mux
}

func reply(w http.ResponseWriter, status int, answer any) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // there is nobody else to tell
}

// read reads a request's body.
func read(req *http.Request, into any) error {
	decoder := json.NewDecoder(req.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return problem{http.StatusBadRequest, "the request's body: " + err.Error()}
	}
	return nil
}

func (s *Server) status(http.ResponseWriter, *http.Request) (any, error) {
	return s.Daemon.Status(), nil
}

func (s *Server) service(_ http.ResponseWriter, req *http.Request) (any, error) {
	name := req.PathValue("name")
	service, ok := Find(s.Daemon.Status().Services, name)
	if !ok {
		return nil, problem{http.StatusNotFound, fmt.Sprintf("no service is called %q, or more than one", name)}
	}
	return service, nil
}

func (s *Server) ready(w http.ResponseWriter, req *http.Request) (any, error) {
	var names []string
	if text := req.URL.Query().Get("service"); text != "" {
		names = strings.Split(text, ",")
	}
	r := ReadinessOf(s.Daemon.Status(), names)
	if !r.Ready {
		reply(w, http.StatusServiceUnavailable, r)
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
	return s.change(req, s.Daemon.AddNamespaces)
}

func (s *Server) removeNamespaces(_ http.ResponseWriter, req *http.Request) (any, error) {
	return s.change(req, s.Daemon.RemoveNamespaces)
}

func (s *Server) change(req *http.Request, to func(NamespaceChange) error) (any, error) {
	var change NamespaceChange
	if err := read(req, &change); err != nil {
		return nil, err
	}
	if err := to(change); err != nil {
		return nil, problem{http.StatusConflict, err.Error()}
	}
	return s.Daemon.Status(), nil
}

// stream is an answer that goes on. Each write is sent at once, and must be taken in
// time.
type stream struct {
	http.ResponseWriter
	control *http.ResponseController
}

func newStream(w http.ResponseWriter, contentType string) stream {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	return stream{w, http.NewResponseController(w)}
}

func (s stream) Write(p []byte) (int, error) {
	if err := s.control.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return 0, err
	}
	n, err := s.ResponseWriter.Write(p)
	return n, errors.Join(err, s.control.Flush())
}

func (s *Server) log(w http.ResponseWriter, req *http.Request) (any, error) {
	query := req.URL.Query()
	tail := -1
	if text := query.Get("tail"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, problem{http.StatusBadRequest, fmt.Sprintf("tail=%s: not a number of lines", text)}
		}
		tail = n
	}
	_ = s.Journal.CopyTo(req.Context(), newStream(w, "text/plain; charset=utf-8"), tail, query.Get("follow") == "true")
	return nil, nil //nolint:nilnil // it is answered
}

func (s *Server) metrics(w http.ResponseWriter, req *http.Request) (any, error) {
	s.Metrics.ServeHTTP(w, req)
	return nil, nil //nolint:nilnil // it is answered
}
