//go:build !linux

package hosts

import "os"

// replaceBy puts the file at temp to path.
func replaceBy(temp, path string) (exchanged bool, err error) { return false, os.Rename(temp, path) }
