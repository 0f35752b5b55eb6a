//go:build !linux

package hosts

import "errors"

// notThere tells whether there is a way without a file.
func notThere(error) bool { return false }

// acquireSocket can't.
func acquireSocket(_, _ string) (*lock, error) { return nil, errors.ErrUnsupported }
