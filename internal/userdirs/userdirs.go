// Package userdirs knows for whom the program runs, and where that user's
// sockets, state and log are.
package userdirs

import (
	"os"
	"path/filepath"
)

// LogPath returns the path of the log of a daemon in the background.
func LogPath() (string, error) {
	dir, err := StateDir()
	return filepath.Join(dir, "kubeshore.log"), err
}

// ExistingLog returns LogPath if there is a log.
func ExistingLog() (path string, ok bool) {
	path, err := LogPath()
	if err != nil {
		return "", false
	}
	_, err = os.Stat(path)
	return path, err == nil
}
