package control

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kubeshore/kubeshore/internal/peer"
)

// maxResponse limits the size of a response, and of an event, in bytes.
const maxResponse = 64 << 20

// responseTimeout limits the time until a response begins.
const responseTimeout = 5 * time.Second

var (
	// ErrNotRunning means that nothing listens on the socket.
	ErrNotRunning = errors.New("not running")

	// ErrNotResponding means that kubeshore is running but doesn't respond in time. It may be
	// suspended.
	ErrNotResponding = errors.New("not responding")

	// ErrDied means that a stream ended early because kubeshore was killed or has crashed.
	ErrDied = errors.New("exited unexpectedly")

	// ErrBehind means that a reader of events or of the log was too slow and missed some.
	ErrBehind = errors.New("client too slow: some output was lost")
)

// VersionError means that the running kubeshore has a different version whose API doesn't
// have the requested path, or whose response can't be decoded.
type VersionError struct {
	Version string // empty if unknown
	PID     int    // 0 if unknown
}

func (e *VersionError) Error() string {
	text := "an incompatible version is running (" + cmp.Or(e.Version, "version unknown")
	if e.PID > 0 {
		text += ", pid " + strconv.Itoa(e.PID)
	}
	return text + ")"
}

// Hint returns advice for the user.
func (e *VersionError) Hint() string {
	if e.PID > 0 {
		return fmt.Sprintf("stop it with 'kill %d', then start kubeshore again", e.PID)
	}
	return "stop its process, then start kubeshore again"
}

// SocketPath returns the path of the API's socket in a directory.
func SocketPath(dir string) string { return filepath.Join(dir, "kubeshore.sock") }

// Client is a client of a running kubeshore. It is safe for concurrent use.
type Client struct{ http *http.Client }

// NewClient returns a client of the kubeshore that listens on the socket in one of the
// directories. Each request tries the directories in order.
func NewClient(dirs ...string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		for _, dir := range dirs {
			path := SocketPath(dir)
			if len(path) > peer.MaxPath {
				continue
			}
			conn, err := d.DialContext(ctx, "unix", path)
			if err == nil || !peer.NotListening(err) {
				return conn, err
			}
		}
		return nil, ErrNotRunning
	}
	return &Client{&http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true, ResponseHeaderTimeout: responseTimeout}}}
}

// Status returns the current status.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodGet, "/v1/status", nil)
}

// Service returns a service by one of its names; see [Find].
func (c *Client) Service(ctx context.Context, name string) (Service, error) {
	return call[Service](ctx, c, http.MethodGet, "/v1/services/"+url.PathEscape(name), nil)
}

// Ready returns the readiness of the named services, or of all services if there are no
// names.
func (c *Client) Ready(ctx context.Context, names ...string) (Readiness, error) {
	query := url.Values{"service": {strings.Join(names, ",")}}
	if len(names) == 0 {
		query = nil
	}
	return call[Readiness](ctx, c, http.MethodGet, "/v1/ready?"+query.Encode(), nil)
}

// Stop asks kubeshore to stop, and returns its last status. It doesn't wait for the end.
func (c *Client) Stop(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodPost, "/v1/stop", nil)
}

// AddNamespaces makes kubeshore forward additional namespaces.
func (c *Client) AddNamespaces(ctx context.Context, change NamespaceChange) (Status, error) {
	return call[Status](ctx, c, http.MethodPost, "/v1/namespaces/add", change)
}

// RemoveNamespaces makes kubeshore stop forwarding namespaces.
func (c *Client) RemoveNamespaces(ctx context.Context, change NamespaceChange) (Status, error) {
	return call[Status](ctx, c, http.MethodPost, "/v1/namespaces/remove", change)
}

// LogIn makes kubeshore use a credential.
func (c *Client) LogIn(ctx context.Context, login Login) (Status, error) {
	return call[Status](ctx, c, http.MethodPost, "/v1/login", login)
}

// Log writes the last lines of the log to w, or all available lines if tail is negative.
// With follow, it then writes new lines until ctx is done or kubeshore exits. It returns
// [ErrBehind] if w is too slow, and [ErrDied] if kubeshore was killed or has crashed.
func (c *Client) Log(ctx context.Context, w io.Writer, tail int, follow bool) error {
	query := url.Values{"follow": {strconv.FormatBool(follow)}}
	if tail >= 0 {
		query.Set("tail", strconv.Itoa(tail))
	}
	resp, err := c.do(ctx, http.MethodGet, "/v1/log?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return resp.asError()
	}
	_, err = io.Copy(w, resp.Body)
	return c.streamEnd(ctx, resp, err)
}

// streamEnd returns the result of reading a stream, given the error that ended it (nil at
// its regular end).
func (c *Client) streamEnd(ctx context.Context, resp *response, err error) error {
	switch {
	case ctx.Err() != nil:
		return nil //nolint:nilerr // the caller ended the stream
	case err == nil && resp.Trailer.Get(EndTrailer) == EndBehind:
		return ErrBehind
	case !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET):
		return err
	}
	// Either the other process exited, or it closed the connection because we were too slow.
	if again, err := c.do(ctx, http.MethodGet, "/v1/status", nil); err == nil {
		_ = again.Body.Close()
		if again.pid == resp.pid {
			return ErrBehind
		}
	}
	return ErrDied
}

// Events calls handle with the status and then with each change, until ctx is done, handle
// returns an error, or kubeshore exits. It returns the error of handle, [ErrBehind] if handle
// is too slow, and [ErrDied] if kubeshore was killed or has crashed.
func (c *Client) Events(ctx context.Context, handle func(Event) error) error {
	resp, err := c.do(ctx, http.MethodGet, "/v1/events", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return resp.asError()
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxResponse)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		var e Event
		if err := json.Unmarshal(data, &e); err != nil {
			return resp.versionError()
		}
		if err := handle(e); err != nil {
			return err
		}
	}
	return c.streamEnd(ctx, resp, lines.Err())
}

// response is an HTTP response with the process ID of the server.
type response struct {
	*http.Response
	pid int // 0 if unknown
}

// versionError returns the error for a response of an incompatible version.
func (r *response) versionError() error { return &VersionError{r.Header.Get(VersionHeader), r.pid} }

// asError returns the error that the response reports.
func (r *response) asError() error {
	var reported ErrorResponse
	err := json.NewDecoder(io.LimitReader(r.Body, maxResponse)).Decode(&reported)
	if err != nil || reported.Error == "" || reported.UnknownEndpoint {
		return r.versionError()
	}
	return errors.New(reported.Error)
}

// do sends a request. The caller must close the response's body.
func (c *Client) do(ctx context.Context, method, path string, body any) (*response, error) {
	var content bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&content).Encode(body); err != nil {
			return nil, err
		}
	}
	var resp response
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if conn, ok := info.Conn.(*net.UnixConn); ok {
			resp.pid, _ = peer.PID(conn)
		}
	}})
	req, err := http.NewRequestWithContext(traced, method, "http://kubeshore"+path, &content)
	if err != nil {
		return nil, err
	}
	resp.Response, err = c.http.Do(req) //nolint:bodyclose // the caller closes it
	if failed := new(url.Error); errors.As(err, &failed) {
		if failed.Timeout() && ctx.Err() == nil {
			return nil, notResponding(resp.pid)
		}
		return nil, failed.Err // without the URL, which means nothing to the user
	}
	return &resp, err
}

func notResponding(pid int) error {
	if pid > 0 {
		return fmt.Errorf("%w (pid %d)", ErrNotResponding, pid)
	}
	return ErrNotResponding
}

// call sends a request and decodes the response.
func call[T any](ctx context.Context, c *Client, method, path string, body any) (result T, err error) {
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return result, err
	}
	defer resp.Body.Close()
	_, isReadiness := any(result).(Readiness)
	notReady := isReadiness && resp.StatusCode == http.StatusServiceUnavailable
	if resp.StatusCode != http.StatusOK && !notReady {
		return result, resp.asError()
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxResponse)).Decode(&result); err != nil {
		return result, resp.versionError()
	}
	return result, nil
}
