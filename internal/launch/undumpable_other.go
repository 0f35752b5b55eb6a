//go:build !linux && !windows

package launch

// keepConnection does nothing: other systems have no call that takes a descriptor from a
// process.
func keepConnection() error { return nil }
