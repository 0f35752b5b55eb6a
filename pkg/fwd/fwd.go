// Package fwd is the core of kubeshore: it applies the desired state of package
// plan to this machine and forwards connections to pods.
//
// State flows in one direction. A [Source] signals changes and returns an
// immutable [plan.Snapshot]; [plan.Plan] computes the desired state; the [Engine]
// applies it through [Addresses], [Aliases], [Ports] and [Names]. Connections
// that Ports accepts go to a ready pod through the [Dialer]. The package is
// independent of Kubernetes clients, the operating system and privileges: these
// are behind the interfaces in this file, which use types of the standard
// library so that implementations need not import this package.
package fwd

import (
	"context"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/kubeshore/kubeshore/pkg/plan"
)

// Source provides the state of the clusters.
type Source interface {
	// Changed receives a value when the snapshot may have changed. The first
	// value means that the snapshot is complete.
	Changed() <-chan struct{}
	// Snapshot returns the current state. It may be called once Changed has
	// received its first value.
	Snapshot() plan.Snapshot
}

// Dialer opens byte streams to pods.
type Dialer interface {
	// Dial opens a stream to a port of a process in the pod. It may return
	// before the pod was contacted; if nothing listens, the stream's Read then
	// fails. ctx bounds the dial, not the stream. Only an [UnreachedError] may be
	// retried.
	Dial(ctx context.Context, pod plan.PodRef, port uint16) (Stream, error)
	// Check checks whether streams to the pod can be opened, without contacting a
	// process in it. It fails with an UnreachedError, or because ctx ended.
	Check(ctx context.Context, pod plan.PodRef) error
}

// Stream is a byte stream to a pod. One goroutine may read and another write
// at the same time.
type Stream interface {
	// Read returns io.EOF only after an orderly end; any other error means that
	// the stream broke. The error is an [UnreachedError] only if the process in
	// the pod has received none of the written bytes.
	// If the stream is an io.WriterTo, the errors of its writes to the client are
	// an [ErrClientGone].
	io.Reader
	// Write fails once the stream is broken or the pod no longer reads; Read
	// then returns the reason.
	io.Writer
	// Received returns how many bytes have arrived from the pod, read or not,
	// and when the last of them arrived, or was accepted if it had to wait for
	// buffer space. Any goroutine may call it at any time.
	Received() (n int64, last time.Time)
	// CloseWrite ends the sending half.
	CloseWrite() error
	// Close ends both halves immediately; undelivered bytes may be lost. It may
	// be called at any time and more than once.
	Close() error
}

// UnreachedError is the error of a [Dialer] or a [Stream] if no process in the
// pod has received any byte of the connection. The connection may be retried,
// with this pod or another.
type UnreachedError struct {
	Reason Reason
	Err    error // the complete description
}

func (e *UnreachedError) Error() string { return e.Err.Error() }

func (e *UnreachedError) Unwrap() error { return e.Err }

// Reason is the kind of an [UnreachedError].
type Reason int

const (
	// PodGone means that the pod or its sandbox doesn't exist, or no longer exists.
	PodGone Reason = iota + 1
	// PortClosed means that nothing in the pod listens on the port.
	PortClosed
	// NodeUnreachable means that the API server can't reach the pod's node. Pods on
	// other nodes may be reachable.
	NodeUnreachable
	// ClusterUnreachable means that the API server can't be reached, or that the
	// connection to it was lost.
	ClusterUnreachable
	// Denied means that the API server, or a proxy in front of it, denies the
	// request. It would deny the same for every pod of the namespace.
	Denied
)

// Ports accepts connections to a set of addresses and ports.
type Ports interface {
	// How describes how ports are bound.
	How() string
	// Set replaces the set of ports. It returns an error for each port that
	// can't be bound, without the port in its text: ports with the same error are
	// reported together. Calling Set again with the same ports retries these.
	// Accepted connections are not affected.
	Set(ctx context.Context, want []netip.AddrPort) map[netip.AddrPort]error
	// Accept returns the next connection; its LocalAddr is the port that the
	// client connected to. It returns net.ErrClosed after Close.
	Accept() (net.Conn, error)
	// Close stops accepting, and returns when all goroutines have ended.
	Close() error
}

// Names maps names to addresses on this machine.
type Names interface {
	// Set replaces the names. It returns an error for each name that can't be
	// set. An empty table restores the machine to its state before the first
	// call. If Set fails, the previous table stays in force.
	Set(ctx context.Context, table map[netip.Addr][]string) (refused map[string]error, err error)
	// Changed receives a value when another program may have changed the names on
	// this machine, and Set has to be called again.
	Changed() <-chan struct{}
}

// Aliases adds loopback addresses, on operating systems that don't accept
// connections on all of 127.0.0.0/8.
type Aliases interface {
	// Set replaces the set of addresses.
	Set(ctx context.Context, addrs []netip.Addr) error
}

// Addresses assigns addresses to hosts.
type Addresses interface {
	// Assign returns an address for each key: its value in keys or, if that is
	// the zero Addr, one that Assign chooses. Different keys get different
	// addresses, and a key keeps its address between calls. Addresses of keys
	// that are no longer given are reused after a while. errs has an error for
	// each key without an address.
	Assign(keys map[string]netip.Addr) (addresses map[string]netip.Addr, errs map[string]error)
}
