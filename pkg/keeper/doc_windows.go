// Package keeper splits kubeshore into two processes on systems with sudo. On
// Windows, kubeshore is a single process that an administrator runs.
package keeper
