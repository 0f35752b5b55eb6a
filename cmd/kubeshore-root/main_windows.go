// Command kubeshore-root exists on systems with sudo. On Windows kubeshore is a single
// process that an administrator runs.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "kubeshore: kubeshore-root isn't used on Windows")
	os.Exit(1)
}
