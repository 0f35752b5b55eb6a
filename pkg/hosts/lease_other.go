//go:build !linux

package hosts

import (
	"context"
	"os"
)

// dirWatchSeesWrites reports whether a watch on a directory sees all writes to a file
// in it.
const dirWatchSeesWrites = true

// hasWriter reports whether another process has the file open for writing; known
// reports whether the system can tell.
func hasWriter(*os.File) (writing, known bool) { return false, false }

// exclusiveLease is not supported: release does nothing.
func exclusiveLease(context.Context, *os.File) (release func(), err error) {
	return func() {}, nil
}
