// Command pause holds a pod's namespaces: it waits for a signal to exit. It
// replaces registry.k8s.io/pause on machines without access to a registry.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	<-end
}
