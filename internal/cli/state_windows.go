package cli

import (
	"os"
	"os/user"
	"path/filepath"
)

// userID returns who the program runs for.
func userID() string {
	me, err := user.Current()
	if err != nil {
		return "user"
	}
	return me.Uid
}

// socketFolders returns where the socket of a new kubeshore may be.
func socketFolders() ([]string, error) {
	folder, err := stateFolder()
	return []string{folder}, err
}

// controlFolders returns where the socket of a running kubeshore may be.
func controlFolders() ([]string, error) { return socketFolders() }

// stateFolder returns where the program keeps what it remembers.
func stateFolder() (string, error) {
	folder, err := os.UserCacheDir() // %LocalAppData%
	return filepath.Join(folder, "kubeshore"), err
}
