//go:build !linux

package hosts

// isMountPoint returns false: these systems don't mount single files.
func isMountPoint(string) bool { return false }
