//go:build !windows

package cli

import (
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
)

// userID returns who the program runs for: the user who called sudo, or else
// the one whose process it is.
func userID() string {
	if id, err := strconv.Atoi(os.Getenv("SUDO_UID")); err == nil && os.Geteuid() == 0 {
		return strconv.Itoa(id)
	}
	return strconv.Itoa(os.Geteuid())
}

// stateFolder returns where the program keeps what it remembers: a user's own
// (XDG Base Directory Specification), or, for root, the system's, a folder for
// each user. Nothing of root's belongs into a user's home.
func stateFolder() (string, error) {
	if os.Geteuid() == 0 {
		return filepath.Join(map[bool]string{true: "/var/db", false: "/var/lib"}[runtime.GOOS == "darwin"], "kubeshore", userID()), nil
	}
	if folder := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(folder) {
		return filepath.Join(folder, "kubeshore"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		me, err := user.Current()
		if err != nil {
			return "", err
		}
		home = me.HomeDir
	}
	return filepath.Join(home, ".local", "state", "kubeshore"), nil
}
