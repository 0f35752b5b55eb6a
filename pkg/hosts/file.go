package hosts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubeshore/kubeshore/internal/backoff"
	"github.com/kubeshore/kubeshore/internal/wake"
)

// File is a hosts file with a block of one owner in it. Until Close, no other kubeshore
// process on this machine can open the file for the same owner.
type File struct {
	// FlushDNSCache flushes the system's DNS cache. FlushAfterWrites calls it after Set
	// has changed the file. It may be nil. It must be set before FlushAfterWrites and Set.
	FlushDNSCache func(context.Context)

	givenPath   string // as passed to Open
	owner       string
	ownerLock   *fileLock // held until Close
	changed     wake.Trigger
	flushNeeded wake.Trigger
	writes      atomic.Uint64
	step        func(name string) error // called before each step of a write, for tests

	mu                  sync.Mutex // held by Set; guards the fields below
	path                string     // the target of givenPath, with symbolic links resolved
	concurrentWritePath string     // a file next to it that has a concurrent write of another program, or ""
	table               map[netip.Addr][]string
	refused             map[string]error
	lastWritten         os.FileInfo // the file's state after the last Set, or nil if unknown
}

// Open opens the hosts file at path for an owner, whose name consists of a to z, 0 to 9
// and hyphens. The file must be a writable regular file, or missing: then Set creates it
// for the first names, and removes it with the last ones. Open doesn't change the file, but
// creates a lock file next to it to keep out other kubeshore processes.
func Open(path, owner string) (*File, error) {
	if !isOwner(owner) {
		return nil, fmt.Errorf("hosts file %s: invalid owner %q", path, owner)
	}
	path = filepath.Clean(path)
	resolved, err := resolve(path)
	if err != nil {
		return nil, err
	}
	if err := checkWritable(resolved); err != nil {
		return nil, err
	}
	ownerLock, err := tryAcquire(resolved, "lock-"+owner)
	if err != nil {
		return nil, fmt.Errorf("hosts file %s: %w", path, err)
	}
	return &File{
		givenPath: path, path: resolved, owner: owner, ownerLock: ownerLock,
		changed: wake.NewTrigger(), flushNeeded: wake.NewTrigger(),
		step: func(string) error { return nil },
	}, nil
}

// Set replaces all of the owner's names with those in table. An empty table removes the
// block. Set returns the names that it didn't write, each with the reason. Any goroutine
// may call it.
func (f *File) Set(ctx context.Context, table map[netip.Addr][]string) (refused map[string]error, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.isCurrentLocked(table) {
		return f.refused, nil
	}
	f.lastWritten = nil
	// Some systems replace the link while they run, so resolve it for each write.
	if f.path, err = resolve(f.givenPath); err != nil {
		return nil, err
	}
	writeLock, err := f.acquireWriteLock(ctx)
	if err == nil {
		refused, f.lastWritten, err = f.setLocked(ctx, table)
		err = errors.Join(err, writeLock.release())
	}
	if err != nil {
		f.lastWritten = nil
		return nil, fmt.Errorf("update hosts file %s: %w", f.givenPath, explain(err))
	}
	for _, reason := range refused {
		if taken := new(TakenError); errors.As(reason, &taken) {
			taken.Path = f.givenPath
		}
	}
	f.table, f.refused = table, refused
	return refused, nil
}

// writeLockTimeout is how long Set waits for another kubeshore process that writes the
// file. A stopped process (SIGSTOP) keeps its lock.
const writeLockTimeout = 10 * time.Second

// acquireWriteLock takes the lock that every write of the file needs.
func (f *File) acquireWriteLock(ctx context.Context) (*fileLock, error) {
	ctx, cancel := context.WithTimeout(ctx, writeLockTimeout)
	defer cancel()
	return acquire(ctx, f.path, "lock")
}

// Writes returns how often Set has written the file. Any goroutine may call it.
func (f *File) Writes() uint64 { return f.writes.Load() }

// isCurrentLocked reports whether the last Set was for the same table and the file has not
// been modified since. f.mu must be held.
func (f *File) isCurrentLocked(table map[netip.Addr][]string) bool {
	return f.lastWritten != nil && maps.EqualFunc(table, f.table, slices.Equal) && f.unmodifiedLocked()
}

// unmodifiedLocked reports whether the file is as the last Set left it. f.mu must be held.
func (f *File) unmodifiedLocked() bool {
	if f.lastWritten == nil {
		return false
	}
	path, err := filepath.EvalSymlinks(f.givenPath)
	if err != nil || path != f.path {
		return false
	}
	info, err := os.Stat(path)
	return err == nil && os.SameFile(info, f.lastWritten) && info.Size() == f.lastWritten.Size() && info.ModTime().Equal(f.lastWritten.ModTime())
}

// maxAttempts is the number of attempts to write the file while another program keeps
// modifying it.
const maxAttempts = 20

// errModified means that another program has modified the file since it was read.
var errModified = errors.New("another program keeps modifying the file")

// setLocked reads, rewrites and writes the file, and returns its new state. Concurrent
// writes to the replaced file are merged and rewritten, even if a later step fails or ctx
// ends. f.mu and the write lock must be held.
func (f *File) setLocked(ctx context.Context, table map[netip.Addr][]string) (refused map[string]error, info os.FileInfo, err error) {
	current, info, err := f.readOrCreateLocked(ctx, len(table) > 0)
	if err != nil || current == nil {
		return nil, nil, err
	}
	base := current
	var pending concurrentContent
	defer func() { err = errors.Join(err, f.flushPendingLocked(pending.lines)) }()
	for range maxAttempts {
		attemptCtx := ctx
		if len(pending.lines) > 0 { // they must not be lost when ctx ends
			attemptCtx = context.WithoutCancel(ctx)
		}
		if err := attemptCtx.Err(); err != nil {
			return nil, nil, err
		}
		next, _, refused, err := Rewrite(base, f.owner, table)
		if err != nil || bytes.Equal(next, current) {
			return refused, info, err
		}
		var concurrentWrite []byte
		if len(next) == 0 && splitBlock(base, f.owner).isWholeFile() {
			info, err = nil, f.removeLocked(current)
		} else {
			concurrentWrite, info, err = f.writeLocked(attemptCtx, current, next)
		}
		switch {
		case errors.Is(err, errModified):
			if current, info, err = readWhenIdle(attemptCtx, f.path); err != nil {
				return nil, nil, err
			}
			base = pending.merge(current, f.owner)
		case err != nil:
			return nil, nil, err
		default:
			f.flushNeeded.Fire()
			f.writes.Add(1)
			pending = concurrentContent{}
			if concurrentWrite == nil {
				return refused, info, nil
			}
			pending = newConcurrentContent(concurrentWrite, next, f.owner)
			current, base = next, concurrentWrite
		}
	}
	return nil, nil, errModified
}

// flushPendingLocked appends the pending lines of another program to the hosts file, and
// removes the file that kept them. That file stays if the lines can't be appended. f.mu
// must be held.
func (f *File) flushPendingLocked(lines [][]byte) error {
	kept := f.concurrentWritePath
	f.concurrentWritePath = "" // even after an error, so that the kept file is not removed later
	if len(lines) > 0 {
		if err := appendLines(f.path, lines); err != nil {
			return fmt.Errorf("restore lines of another program, kept in %s: %w", kept, err)
		}
	}
	if kept == "" {
		return nil
	}
	if err := os.Remove(kept); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// readWhenIdle returns a file's content, and its state just before it was read. It gives
// programs that have the file open for writing openWriterTimeout to finish.
func readWhenIdle(ctx context.Context, path string) ([]byte, os.FileInfo, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	for start := time.Now(); time.Since(start) < openWriterTimeout; {
		if writing, known := hasWriter(file); !writing || !known {
			break
		}
		if err := backoff.Sleep(ctx, writerPollInterval); err != nil {
			return nil, nil, err
		}
	}
	info, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	content, err := readAll(file)
	return content, info, err
}

// Close releases the file for other kubeshore processes. It doesn't change the file. It
// may be called more than once.
func (f *File) Close() error { return f.ownerLock.release() }
