//go:build !windows && !(linux && (amd64 || arm64))

package roothalf

// execCalls are not known here.
var execCalls []uint32

// filterSystemCalls does nothing.
func filterSystemCalls(...uint32) error { return nil }
