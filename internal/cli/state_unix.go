//go:build !windows

package cli

import (
	"cmp"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
)

// userID returns who the program runs for: the user who called sudo, or else
// the one whose process it is.
func userID() string {
	if id, err := strconv.Atoi(os.Getenv("SUDO_UID")); err == nil && os.Geteuid() == 0 {
		return strconv.Itoa(id)
	}
	return strconv.Itoa(os.Geteuid())
}

// socketFolders returns where the socket of a new kubeshore may be, the best first: the
// user's folder for such things, which sudo doesn't say, as long as it is there, or else
// where the program keeps what it remembers.
func socketFolders() (folders []string, err error) {
	if folder := cmp.Or(os.Getenv("XDG_RUNTIME_DIR"), filepath.Join("/run/user", userID())); isOf(folder, userID()) {
		folders = append(folders, filepath.Join(folder, "kubeshore"))
	}
	state, err := stateFolder()
	if err != nil {
		return nil, err
	}
	return append(folders, state), nil
}

// controlFolders returns where the socket of a running kubeshore of the user's may be.
func controlFolders() ([]string, error) {
	folders, err := socketFolders()
	if err != nil {
		return nil, err
	}
	if me, err := user.LookupId(userID()); err == nil && os.Geteuid() == 0 && userID() != "0" { // root asks for the user who called sudo
		folders = append(folders, filepath.Join(me.HomeDir, stateInHome))
	}
	return distinct(folders), nil
}

// isOf tells whether a folder is of a user, and of nobody else.
func isOf(folder, uid string) bool {
	info, err := os.Stat(folder)
	if err != nil || !filepath.IsAbs(folder) || !info.IsDir() || info.Mode().Perm()&0o077 != 0 {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && strconv.Itoa(int(stat.Uid)) == uid
}

// stateInHome is where in the home what is remembered is, if nothing says otherwise.
const stateInHome = ".local/state/kubeshore"

// stateFolder returns where the program keeps what it remembers: a user's own
// (XDG Base Directory Specification), or, for root, the system's, a folder for
// each user. Nothing of root's belongs into a user's home.
func stateFolder() (string, error) {
	said := os.Getenv("XDG_STATE_HOME")
	if os.Geteuid() == 0 && (userID() != "0" || !filepath.IsAbs(said)) {
		return filepath.Join(map[bool]string{true: "/var/db", false: "/var/lib"}[runtime.GOOS == "darwin"], "kubeshore", userID()), nil
	}
	if filepath.IsAbs(said) {
		return filepath.Join(said, "kubeshore"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		me, err := user.Current()
		if err != nil {
			return "", err
		}
		home = me.HomeDir
	}
	return filepath.Join(home, stateInHome), nil
}
