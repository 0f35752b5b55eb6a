package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxAnswer bounds what an answer may be, and an event, in bytes.
const maxAnswer = 64 << 20

// answerTime is how long an answer may take to begin.
const answerTime = 5 * time.Second

// ErrNoAnswer says that something listens at the socket and doesn't answer.
var ErrNoAnswer = fmt.Errorf("kubeshore runs and doesn't answer within %v: it may be stopped (SIGSTOP), or hang", answerTime)

// ErrNotRunning says that nothing listens at the socket.
var ErrNotRunning = errors.New("kubeshore isn't running")

// Client asks a running kubeshore. It may be used by several goroutines.
type Client struct{ http *http.Client }

// NewClient returns a client of the kubeshore that listens at the socket in one of the
// folders: the first of them that has one. It connects with the first request.
func NewClient(folders ...string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		for _, folder := range folders {
			conn, err := d.DialContext(ctx, "unix", SocketIn(folder))
			if err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) {
				return conn, err
			}
		}
		return nil, ErrNotRunning
	}
	return &Client{&http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true, ResponseHeaderTimeout: answerTime}}}
}

// VersionError is the answer of a kubeshore of another version that doesn't know what it
// is asked, or answers what isn't understood.
type VersionError struct{ Version string }

func (e *VersionError) Error() string {
	return fmt.Sprintf("the kubeshore that runs is of another version (%s): end it with kubeshore down, and start it anew", e.Version)
}

// Status returns what stands.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return ask[Status](ctx, c, http.MethodGet, "/v1/status", nil)
}

// Service returns one service, by any of its names.
func (c *Client) Service(ctx context.Context, name string) (Service, error) {
	return ask[Service](ctx, c, http.MethodGet, "/v1/services/"+url.PathEscape(name), nil)
}

// Ready says whether the services of those names can answer; without names, all.
func (c *Client) Ready(ctx context.Context, names ...string) (Readiness, error) {
	query := url.Values{"service": {strings.Join(names, ",")}}
	if len(names) == 0 {
		query = nil
	}
	return ask[Readiness](ctx, c, http.MethodGet, "/v1/ready?"+query.Encode(), nil)
}

// Stop tells it to end, and returns what it was.
func (c *Client) Stop(ctx context.Context) (Status, error) {
	return ask[Status](ctx, c, http.MethodPost, "/v1/stop", nil)
}

// AddNamespaces has it forward further namespaces.
func (c *Client) AddNamespaces(ctx context.Context, change NamespaceChange) (Status, error) {
	return ask[Status](ctx, c, http.MethodPost, "/v1/namespaces/add", change)
}

// RemoveNamespaces has it forward namespaces no more.
func (c *Client) RemoveNamespaces(ctx context.Context, change NamespaceChange) (Status, error) {
	return ask[Status](ctx, c, http.MethodPost, "/v1/namespaces/remove", change)
}

// Log writes the last lines of the log, all that there are if tail is negative, and, if
// it is to follow, those that come, until ctx or the kubeshore ends.
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
		return faultOf(resp)
	}
	if _, err := io.Copy(w, resp.Body); ctx.Err() == nil && !isEnd(err) {
		return err
	}
	return nil
}

// isEnd tells whether a stream ended by the kubeshore's end, in good order or not.
func isEnd(err error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

// Events calls handle with the status, and then with each change, until ctx ends, handle
// returns an error, which it then returns, or the kubeshore ends.
func (c *Client) Events(ctx context.Context, handle func(Event) error) error {
	resp, err := c.do(ctx, http.MethodGet, "/v1/events", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return faultOf(resp)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		var e Event
		if err := json.Unmarshal(data, &e); err != nil {
			return &VersionError{resp.Header.Get(VersionHeader)}
		}
		if err := handle(e); err != nil {
			return err
		}
	}
	if ctx.Err() != nil || isEnd(lines.Err()) {
		return nil
	}
	return lines.Err()
}

func (c *Client) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var content bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&content).Encode(body); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://kubeshore"+path, &content)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if failed := new(url.Error); errors.As(err, &failed) {
		if failed.Timeout() && ctx.Err() == nil {
			return nil, ErrNoAnswer
		}
		return nil, failed.Err // the URL says nothing to anybody
	}
	return resp, err
}

// ask returns the answer to a request.
func ask[T any](ctx context.Context, c *Client, method, path string, body any) (answer T, err error) {
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return answer, err
	}
	defer resp.Body.Close()
	_, readiness := any(answer).(Readiness)
	if resp.StatusCode != http.StatusOK && (!readiness || resp.StatusCode != http.StatusServiceUnavailable) {
		return answer, faultOf(resp)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&answer); err != nil {
		return answer, &VersionError{resp.Header.Get(VersionHeader)}
	}
	return answer, nil
}

// faultOf returns the error that an answer says.
func faultOf(resp *http.Response) error {
	var fault Fault
	err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&fault)
	if err != nil || fault.Error == "" || resp.StatusCode == http.StatusNotFound && strings.HasPrefix(fault.Error, noSuchPath) {
		return &VersionError{resp.Header.Get(VersionHeader)}
	}
	return errors.New(fault.Error)
}
