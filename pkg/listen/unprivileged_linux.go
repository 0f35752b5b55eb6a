package listen

import (
	"os"
	"strconv"
	"strings"
)

// UnprivilegedPortStart returns the lowest port that doesn't need root.
func UnprivilegedPortStart() int {
	const usual = 1024
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		return usual
	}
	port, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return usual
	}
	return port
}
