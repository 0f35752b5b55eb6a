package kube

import "os"

// openPipe opens a path that can be read only once.
func openPipe(path string) (*os.File, error) { return os.Open(path) }
