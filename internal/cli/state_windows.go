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

// stateFolder returns where the program keeps what it remembers.
func stateFolder() (string, error) {
	folder, err := os.UserCacheDir() // %LocalAppData%
	return filepath.Join(folder, "kubeshore"), err
}
