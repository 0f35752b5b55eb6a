// Package userdirs finds the user that the program runs for, and that user's
// directories for sockets, state and logs.
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

// AllowedPath returns the path of the file with the project files that the user has
// allowed. It has a directory of its own, in which nothing else changes.
func AllowedPath() (string, error) {
	dir, err := StateDir()
	return filepath.Join(dir, "projects", "allowed"), err
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
