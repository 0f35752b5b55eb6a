// Package keeper divides kubeshore in two on systems that have users who become
// root for a moment. On Windows it is one process, of an administrator.
package keeper
