package hosts

import (
	"errors"
	"os"
	"strings"
)

// isSystemAttribute reports whether only the system can set the attribute, e.g.
// com.apple.provenance.
func isSystemAttribute(name string) bool { return strings.HasPrefix(name, "com.apple.") }

// preallocate is not supported: another process can take the space that
// F_PREALLOCATE reserves.
func preallocate(*os.File, int64) error { return errors.ErrUnsupported }
