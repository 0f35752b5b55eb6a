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

// controlFolders returns where the socket of a running kubeshore may be, the one for a
// new one first.
func controlFolders() ([]string, error) {
	folder, err := stateFolder()
	return []string{folder}, err
}

// stateFolder returns where the program keeps what it remembers.
func stateFolder() (string, error) {
	folder, err := os.UserCacheDir() // %LocalAppData%
	return filepath.Join(folder, "kubeshore"), err
}
