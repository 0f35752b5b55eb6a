// Package roothalf is what runs as root: the keeper, its guard, and the commands that
// start them. It is a program of its own, cmd/kubeshore-root, which contains no
// Kubernetes client, no parser of files that a user writes, and no HTTP. The main
// program has the same commands, for an installation without that program.
package roothalf
