// Command pause holds a pod's namespaces: it does nothing until it is told to
// end. It stands in for registry.k8s.io/pause, which a machine without a
// registry can't have.
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
