//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// resolve looks up a name with libc, like most programs.
func resolve(name string) (string, error) {
	addresses, err := net.LookupHost(name)
	if err != nil {
		return "", err
	}
	return addresses[0], nil
}

// response is the response of go-ok.
type response struct{ Message, Pod, Port string }

// get requests a URL over a new connection.
func get(address string) (response, error) {
	client := &http.Client{
		Timeout: 15 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				host, port, err := net.SplitHostPort(addr)
				if err != nil {
					return nil, err
				}
				if host, err = resolve(host); err != nil {
					return nil, err
				}
				var d net.Dialer
				return d.DialContext(ctx, network, net.JoinHostPort(host, port))
			},
		},
	}
	resp, err := client.Get(address)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	var a response
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return response{}, err
	}
	if a.Message != "ok" {
		return a, fmt.Errorf("%s: got response %+v", address, a)
	}
	return a, nil
}

func mustGet(t *testing.T, address string) response {
	t.Helper()
	a, err := get(address)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// refused returns an error if a connection to the URL's host and port is
// accepted.
func refused(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	conn, err := net.DialTimeout("tcp", u.Host, 5*time.Second)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("%s accepts connections", u.Host)
	}
	return nil
}
