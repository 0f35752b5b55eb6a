// Package version reports which build of kubeshore this is.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// String returns the module's version, or the pseudo-version of the commit that
// the program was built from.
func String() string {
	info, _ := debug.ReadBuildInfo()
	return Of(info)
}

// Of is like String, for the build information of any program; info may be nil.
func Of(info *debug.BuildInfo) string {
	if info == nil || info.Main.Version == "" {
		return "(unknown)"
	}
	return info.Main.Version
}

// Platform returns the operating system and the architecture, e.g. linux/amd64.
func Platform() string { return runtime.GOOS + "/" + runtime.GOARCH }

// Line returns program, version, Go version and platform in one line.
func Line() string {
	return fmt.Sprintf("kubeshore %s %s %s", String(), runtime.Version(), Platform())
}

// UserAgent returns the user agent that API servers see.
func UserAgent() string { return fmt.Sprintf("kubeshore/%s (%s)", String(), Platform()) }
