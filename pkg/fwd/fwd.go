// Package fwd is the core of kubeshore: it decides what should stand on this
// machine for a cluster's services, makes it so, and carries connections to
// their pods.
//
// State flows in one direction. A [Source] says that something changed and
// hands out an immutable [Snapshot]; the pure function [Plan] says what should
// stand; the [Engine] makes it so through [Addresses], [Aliases], [Ports] and
// [Names]. Connections that Ports accepts go to a ready pod through the
// [Dialer]. The package knows nothing of Kubernetes clients, of the operating
// system or of privileges: all of that stands behind the interfaces here, which
// use the standard library's types so that their implementations need not
// import this package.
package fwd

import (
	"context"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/kubeshore/kubeshore/pkg/plan"
)

// Source is where the state of the clusters comes from.
type Source interface {
	// Changed receives a value when the snapshot may differ from the last one
	// taken; the first, once the snapshot is first complete.
	Changed() <-chan struct{}
	// Snapshot returns the state as it is now. It may be called after Changed
	// has first received.
	Snapshot() plan.Snapshot
}

// Dialer opens byte streams to pods.
type Dialer interface {
	// Dial opens a stream to a port that a process in the pod listens on. It
	// may return before the pod was asked: then the stream's Read tells that
	// nothing listens. ctx bounds the dial, not the stream. An error that is
	// an [UnreachedError] says what to do about it; any other is final.
	Dial(ctx context.Context, pod plan.PodRef, port uint16) (Stream, error)
}

// Stream is a byte stream to a pod. One goroutine may read and another write
// at the same time.
type Stream interface {
	// Read returns io.EOF only after an orderly end; any other error means
	// that the stream was broken off. It is an [UnreachedError] only if the
	// pod's process has seen none of the bytes that were written.
	io.Reader
	// Write fails once the stream is broken off or the pod takes no more; how
	// it has ended is what Read says then.
	io.Writer
	// Received returns how many bytes have come from the pod so far, read or
	// not, and when the last of them did, or were taken if they had to wait for
	// that. Anyone may call it at any time.
	Received() (n int64, last time.Time)
	// CloseWrite says that no more will be written.
	CloseWrite() error
	// Close ends the stream at once, in both directions; what was not yet
	// delivered may be lost. It may be called at any time and more than once.
	Close() error
}

// UnreachedError is the error of a [Dialer] or a [Stream] where it is certain
// that no process in the pod has seen any of the connection's bytes: it may be
// tried again, elsewhere or later.
type UnreachedError struct {
	Why Reason
	Err error // the whole of it, in words
}

func (e *UnreachedError) Error() string { return e.Err.Error() }

func (e *UnreachedError) Unwrap() error { return e.Err }

// Reason is why a pod was not reached.
type Reason int

const (
	// PodGone: the pod, or what it runs in, is not there, or no more.
	PodGone Reason = iota + 1
	// PortClosed: the pod is there, and nothing in it listens on the port.
	PortClosed
	// ClusterAway: the cluster's API server can't be reached, or the
	// connection to it was lost.
	ClusterAway
	// Denied: the API server, or what stands before it, doesn't let the user
	// do that. It will say the same of every pod of the namespace.
	Denied
)

// Ports accepts connections to a set of addresses and ports.
type Ports interface {
	// How says in words how ports are taken.
	How() string
	// Set makes want the whole set that is accepted for. It returns why for
	// those that it could not have, and may be called again with the same set
	// to try them anew. Connections already accepted are not touched.
	Set(ctx context.Context, want []netip.AddrPort) map[netip.AddrPort]error
	// Accept returns the next connection; its LocalAddr tells what it is for.
	// It returns net.ErrClosed after Close.
	Accept() (net.Conn, error)
	// Close stops accepting for good and returns when nothing of it runs.
	Close() error
}

// Names gives addresses their names on this machine.
type Names interface {
	// Set makes table the whole of the names that are ours, but for those that
	// can't be had, which it returns with the reason. An empty table leaves
	// the machine as it was before the first call. On an error the table set
	// before stays in force.
	Set(ctx context.Context, table map[netip.Addr][]string) (refused map[string]error, err error)
	// Changed receives when another program may have changed what Set did, or
	// what it is refused: it is to be called again.
	Changed() <-chan struct{}
}

// Aliases makes addresses reachable on this machine, on operating systems that
// don't answer on all of 127.0.0.0/8 by themselves.
type Aliases interface {
	// Set makes addrs the whole set of the addresses that are ours.
	Set(ctx context.Context, addrs []netip.Addr) error
}

// Addresses decides which address a host has.
type Addresses interface {
	// Assign returns an address for each key, different for different keys,
	// and the same for a key as the last time: the one that it is given with, or,
	// if that is the zero Addr, one of Assign's own choice; and why for those that
	// can't have one. Addresses of keys that are not in keys are free again after
	// a while.
	Assign(keys map[string]netip.Addr) (addresses map[string]netip.Addr, faults map[string]error)
}
