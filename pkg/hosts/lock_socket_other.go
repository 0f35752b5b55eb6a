//go:build !linux

package hosts

import "errors"

// cannotCreateFile reports whether to fall back to tryAcquireSocket, which exists on
// Linux only.
func cannotCreateFile(error) bool { return false }

// tryAcquireSocket is not supported.
func tryAcquireSocket(_, _ string) (*fileLock, error) { return nil, errors.ErrUnsupported }
