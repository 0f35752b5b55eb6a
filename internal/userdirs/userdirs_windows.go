package userdirs

import (
	"os"
	"os/user"
	"path/filepath"
)

// UserID returns the security identifier (SID) of the user that the program
// runs for.
func UserID() string {
	me, err := user.Current()
	if err != nil {
		return "user"
	}
	return me.Uid
}

// SocketDirs returns the directories in which a new daemon may create its API
// socket.
func SocketDirs() ([]string, error) {
	dir, err := StateDir()
	return []string{dir}, err
}

// SocketSearchDirs returns the directories in which the API socket of the
// user's running daemon may be.
func SocketSearchDirs() ([]string, error) { return SocketDirs() }

// StateDir returns the directory for state that outlives a run.
func StateDir() (string, error) {
	dir, err := os.UserCacheDir() // %LocalAppData%
	return filepath.Join(dir, "kubeshore"), err
}
