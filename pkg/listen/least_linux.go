package listen

import (
	"os"
	"strconv"
	"strings"
)

// LeastPort returns the least port that needs no root.
func LeastPort() int {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err == nil {
		if least, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			return least
		}
	}
	return 1024
}
