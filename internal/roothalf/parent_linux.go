package roothalf

import (
	"fmt"
	"os"
	"strings"
)

// process returns the name of a process and the ID of its real user (proc(5)).
func process(pid int) (name string, uid int, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "", 0, err
	}
	uid = -1
	for line := range strings.Lines(string(status)) {
		switch key, value, _ := strings.Cut(line, ":"); key {
		case "Name":
			name = strings.TrimSpace(value)
		case "Uid":
			if _, err := fmt.Sscan(value, &uid); err != nil {
				return "", 0, err
			}
		}
	}
	return name, uid, nil
}
