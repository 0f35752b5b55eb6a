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

// maxResponse bounds what an answer may be, and an event, in bytes.
const maxResponse = 64 << 20

// responseTimeout is how long an answer may take to begin.
const responseTimeout = 5 * time.Second

// ErrBehind means that a reader of events or of the log was too slow and missed some.
var ErrBehind = errors.New("too slow: what came meanwhile is lost")

// ErrNotResponding says that something listens at the socket and doesn't answer.
var ErrNotResponding = fmt.Errorf("kubeshore runs and doesn't answer within %v: it may be stopped (SIGSTOP), or hang", responseTimeout)

// ErrNotRunning says that nothing listens at the socket.
var ErrNotRunning = errors.New("kubeshore isn't running")

// ErrDied says that a stream has ended without an end, and that nothing listens at the
// socket any more.
var ErrDied = errors.New("kubeshore has ended without a word: it was killed, or has crashed")

// SocketPath returns the path of the API's socket in a folder.
func SocketPath(folder string) string { return filepath.Join(folder, "kubeshore.sock") }

// Client asks a running kubeshore. It may be used by several goroutines.
type Client struct{ http *http.Client }

// NewClient returns a client of the kubeshore that listens at the socket in one of the
// folders: the first of them that has one. It connects with the first request.
func NewClient(folders ...string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		for _, folder := range folders {
			path := SocketPath(folder)
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

// VersionError is the answer of a kubeshore of another version that doesn't know what it
// is asked, or answers what isn't understood.
type VersionError struct {
	Version string
	PID     int // its process's; 0 if the system doesn't tell
}

func (e *VersionError) Error() string {
	end := "end its process"
	if e.PID > 0 {
		end = fmt.Sprintf("end it with kill %d", e.PID)
	}
	return fmt.Sprintf("the kubeshore that runs is of another version (%s): %s, and start it anew", cmp.Or(e.Version, "an unknown one"), end)
}

// Status returns what stands.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodGet, "/v1/status", nil)
}

// Service returns one service, by any of its names.
func (c *Client) Service(ctx context.Context, name string) (Service, error) {
	return call[Service](ctx, c, http.MethodGet, "/v1/services/"+url.PathEscape(name), nil)
}

// Ready says whether the services of those names can answer; without names, all.
func (c *Client) Ready(ctx context.Context, names ...string) (Readiness, error) {
	query := url.Values{"service": {strings.Join(names, ",")}}
	if len(names) == 0 {
		query = nil
	}
	return call[Readiness](ctx, c, http.MethodGet, "/v1/ready?"+query.Encode(), nil)
}

// Stop tells it to end, and returns what it was.
func (c *Client) Stop(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodPost, "/v1/stop", nil)
}

// AddNamespaces has it forward further namespaces.
func (c *Client) AddNamespaces(ctx context.Context, change NamespaceChange) (Status, error) {
	return call[Status](ctx, c, http.MethodPost, "/v1/namespaces/add", change)
}

// RemoveNamespaces has it forward namespaces no more.
func (c *Client) RemoveNamespaces(ctx context.Context, change NamespaceChange) (Status, error) {
	return call[Status](ctx, c, http.MethodPost, "/v1/namespaces/remove", change)
}

// Log writes the last lines of the log, all that there are if tail is negative, and, if
// it is to follow, those that come, until ctx or the kubeshore ends. It fails with
// [ErrBehind] if w doesn't take them in time, and with [ErrDied] if the kubeshore has ended
// other than in good order.
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
		return errorFrom(resp)
	}
	_, err = io.Copy(w, resp.Body)
	return c.streamEnd(ctx, resp, err)
}

// streamEnd returns how a stream has ended that was read to its end, or an error.
func (c *Client) streamEnd(ctx context.Context, resp *response, err error) error {
	switch {
	case ctx.Err() != nil:
		return nil //nolint:nilerr // it was to end
	case err == nil && resp.Trailer.Get(EndTrailer) == EndBehind:
		return ErrBehind
	case !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET):
		return err
	}
	// It was broken off: by the end of the other process, or by that as we were slow.
	if again, err := c.do(ctx, http.MethodGet, "/v1/status", nil); err == nil {
		_ = again.Body.Close()
		if again.pid == resp.pid {
			return ErrBehind
		}
	}
	return ErrDied
}

// Events calls handle with the status, and then with each change, until ctx ends, handle
// returns an error, which it then returns, or the kubeshore ends. It fails with [ErrBehind]
// if handle takes too long, and with [ErrDied] if the kubeshore has ended other than in good
// order.
func (c *Client) Events(ctx context.Context, handle func(Event) error) error {
	resp, err := c.do(ctx, http.MethodGet, "/v1/events", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errorFrom(resp)
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

// response is an answer, and who gave it.
type response struct {
	*http.Response
	pid int // 0 if the system doesn't tell
}

// versionError returns the error that it is another version's.
func (a *response) versionError() error { return &VersionError{a.Header.Get(VersionHeader), a.pid} }

func (c *Client) do(ctx context.Context, method, path string, body any) (*response, error) {
	var content bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&content).Encode(body); err != nil {
			return nil, err
		}
	}
	var a response
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if conn, ok := info.Conn.(*net.UnixConn); ok {
			a.pid, _ = peer.PID(conn)
		}
	}})
	req, err := http.NewRequestWithContext(ctx, method, "http://kubeshore"+path, &content)
	if err != nil {
		return nil, err
	}
	a.Response, err = c.http.Do(req) //nolint:bodyclose // who has called closes it
	if failed := new(url.Error); errors.As(err, &failed) {
		if failed.Timeout() && ctx.Err() == nil {
			return nil, ErrNotResponding
		}
		return nil, failed.Err // the URL says nothing to anybody
	}
	return &a, err
}

// call returns the answer to a request.
func call[T any](ctx context.Context, c *Client, method, path string, body any) (answer T, err error) {
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return answer, err
	}
	defer resp.Body.Close()
	_, readiness := any(answer).(Readiness)
	if resp.StatusCode != http.StatusOK && (!readiness || resp.StatusCode != http.StatusServiceUnavailable) {
		return answer, errorFrom(resp)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxResponse)).Decode(&answer); err != nil {
		return answer, resp.versionError()
	}
	return answer, nil
}

// errorFrom returns the error that an answer says.
func errorFrom(resp *response) error {
	var fault ErrorResponse
	err := json.NewDecoder(io.LimitReader(resp.Body, maxResponse)).Decode(&fault)
	if err != nil || fault.Error == "" || fault.UnknownEndpoint {
		return resp.versionError()
	}
	return errors.New(fault.Error)
}
