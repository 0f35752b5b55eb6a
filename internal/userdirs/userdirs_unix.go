//go:build !windows

package userdirs

import (
	"cmp"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
)

// UserID returns the numeric ID of the user that the program runs for: the user
// who invoked sudo, otherwise the user of the process.
func UserID() string {
	if id, err := strconv.Atoi(os.Getenv("SUDO_UID")); err == nil && os.Geteuid() == 0 {
		return strconv.Itoa(id)
	}
	return strconv.Itoa(os.Geteuid())
}

// SocketDirs returns the directories in which a new daemon may create its API
// socket, in order of preference: the user's runtime directory if there is one
// (sudo drops XDG_RUNTIME_DIR, so its usual path is tried too), then the state
// directory.
func SocketDirs() (dirs []string, err error) {
	if dir := cmp.Or(os.Getenv("XDG_RUNTIME_DIR"), filepath.Join("/run/user", UserID())); isPrivate(dir, UserID()) {
		dirs = append(dirs, filepath.Join(dir, "kubeshore"))
	}
	state, err := StateDir()
	if err != nil {
		return nil, err
	}
	return append(dirs, state), nil
}

// SocketSearchDirs returns the directories in which the API socket of the
// user's running daemon may be. For root that includes those of the user who
// invoked sudo.
func SocketSearchDirs() ([]string, error) {
	dirs, err := SocketDirs()
	if err != nil || os.Geteuid() != 0 || UserID() == "0" {
		return dirs, err
	}
	invoker, err := user.LookupId(UserID())
	if err != nil {
		return dirs, nil //nolint:nilerr // a user that isn't known has no home to search
	}
	if dir := filepath.Join(invoker.HomeDir, stateInHome); !slices.Contains(dirs, dir) {
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

// isPrivate reports whether a directory belongs to the user, with no access for
// anybody else.
func isPrivate(dir, uid string) bool {
	info, err := os.Stat(dir)
	if err != nil || !filepath.IsAbs(dir) || !info.IsDir() || info.Mode().Perm()&0o077 != 0 {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && strconv.Itoa(int(stat.Uid)) == uid
}

// stateInHome is the default of the state directory, relative to the home
// directory.
const stateInHome = ".local/state/kubeshore"

// StateDir returns the directory for state that outlives a run: the user's own
// (XDG Base Directory Specification) or, for root, a system directory per user,
// since root creates no files in users' homes.
func StateDir() (string, error) {
	configured := os.Getenv("XDG_STATE_HOME")
	if os.Geteuid() == 0 && (UserID() != "0" || !filepath.IsAbs(configured)) {
		return filepath.Join(systemStateDir(), "kubeshore", UserID()), nil
	}
	if filepath.IsAbs(configured) {
		return filepath.Join(configured, "kubeshore"), nil
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

func systemStateDir() string {
	if runtime.GOOS == "darwin" {
		return "/var/db"
	}
	return "/var/lib"
}
