// Package rootonly finds out whether only root can change what a path leads to. On
// Windows it doesn't: that would take reading access control lists.
package rootonly

// CheckDirs returns nil.
func CheckDirs(string) error { return nil }

// CheckFile returns nil.
func CheckFile(string) error { return nil }
