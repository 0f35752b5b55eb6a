//go:build !linux

package hosts

import "os"

// renameOver moves the file at temp to path.
func renameOver(temp, path string) (exchanged bool, err error) { return false, os.Rename(temp, path) }
