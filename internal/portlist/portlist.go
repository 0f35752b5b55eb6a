// Package portlist writes ports for messages.
package portlist

import (
	"fmt"
	"strconv"
	"strings"
)

// maxListed limits the ports in a text.
const maxListed = 20

// Text returns "port 80" or "ports 80, 443". The number replaces ports after the
// first 20: "ports 1, 2, … (999 ports)".
func Text(ports []uint16) string {
	if len(ports) == 1 {
		return "port " + strconv.Itoa(int(ports[0]))
	}
	listed := make([]string, 0, maxListed)
	for _, port := range ports[:min(len(ports), maxListed)] {
		listed = append(listed, strconv.Itoa(int(port)))
	}
	text := "ports " + strings.Join(listed, ", ")
	if len(ports) > maxListed {
		text += fmt.Sprintf(", … (%d ports)", len(ports))
	}
	return text
}
