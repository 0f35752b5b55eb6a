//go:build !linux

package hosts

import (
	"errors"
	"os"
)

// copyAttributes does nothing: no such attribute of a hosts file is known to matter
// here. On Windows a new file inherits its folder's access list.
func copyAttributes(_, _ *os.File) error { return nil }

// allocate can't.
func allocate(*os.File, int64) error { return errors.ErrUnsupported }
