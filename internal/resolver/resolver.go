// Package resolver asks this system's resolver for a name, as other programs do
// through getaddrinfo(3), and finds reasons why it ignores the hosts file.
package resolver

import "errors"

// ErrNotFound means that the system's resolver doesn't know a name.
var ErrNotFound = errors.New("not found")

// ErrUnavailable means that this program can't ask the system's resolver.
var ErrUnavailable = errors.New("the system's resolver can't be asked")
