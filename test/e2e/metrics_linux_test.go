//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestMetricsCountConnections(t *testing.T) {
	ns := namespaceWithWeb(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	up(t, "-n", ns, "--metrics", address)
	for range 3 {
		mustGet(t, "http://web."+ns)
	}
	eventually(t, "metrics count the connections", func() error {
		client := http.Client{Timeout: 5 * time.Second}
		resp, err := client.Get("http://" + address + "/metrics")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		for _, want := range []string{
			`service="web"} 3`, `kubeshore_services{state="ready"} 1`, "kubeshore_first_byte_seconds_count 3", `kubeshore_dial_seconds_count{result="done"} 3`,
			"kubeshore_hosts_writes_total 1", `direction="down",`, `ready="true"`, "kubeshore_upstream_connections ",
		} {
			if !strings.Contains(string(text), want) {
				return fmt.Errorf("got metrics\n%s\nwant them to contain %q", text, want)
			}
		}
		return nil
	})
}
