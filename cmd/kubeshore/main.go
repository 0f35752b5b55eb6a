// Command kubeshore forwards the services of Kubernetes namespaces to this
// machine, each by its own name, address and ports.
package main

import (
	"context"
	"os"

	"github.com/kubeshore/kubeshore/internal/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), os.Args[1:], cli.Streams{Out: os.Stdout, Err: os.Stderr}))
}
