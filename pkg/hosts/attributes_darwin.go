package hosts

import (
	"errors"
	"os"
	"strings"
)

// isSystems tells whether an attribute is for the system alone to set, as
// com.apple.provenance is.
func isSystems(name string) bool { return strings.HasPrefix(name, "com.apple.") }

// allocate can't: what F_PREALLOCATE keeps is lost again to others.
func allocate(*os.File, int64) error { return errors.ErrUnsupported }
