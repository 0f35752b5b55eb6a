package hosts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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

// File is a hosts file with an owner's block in it. Of the kubeshores of this
// machine it is the only one with that owner, until Close.
type File struct {
	// Flush empties the system's cache of names. Run calls it after the file has
	// changed. It may be nil, and must be set before Run and Set.
	Flush func(context.Context)

	given   string // the path as it was given
	owner   string
	running *lock
	changed wake.Trigger
	flush   wake.Trigger
	writes  atomic.Uint64
	step    func(what string) error // before each step of a write; for tests

	mu      sync.Mutex // for one Set at a time
	path    string     // what given leads to: no symbolic link
	late    string     // a file beside it that has what another program wrote; empty if there is none
	table   map[netip.Addr][]string
	refused map[string]error
	written os.FileInfo // the file as it was with that table; nil if that is not known
}

// Open takes the hosts file at path for an owner, which is a word of a to z, 0 to 9
// and hyphens. It must be a regular file that can be written. Nothing is changed
// yet, but for a lock file beside it, which tells other kubeshores.
func Open(path, owner string) (*File, error) {
	if !isOwner(owner) {
		return nil, fmt.Errorf("hosts file %s: %q can't own a part of it", path, owner)
	}
	path = filepath.Clean(path)
	resolved, err := resolve(path)
	if err != nil {
		return nil, err
	}
	if err := writable(resolved); err != nil {
		return nil, err
	}
	running, err := acquire(resolved, "lock-"+owner)
	if err != nil {
		return nil, fmt.Errorf("hosts file %s: %w", path, err)
	}
	return &File{
		given: path, path: resolved, owner: owner, running: running,
		changed: wake.NewTrigger(), flush: wake.NewTrigger(),
		step: func(string) error { return nil },
	}, nil
}

// resolve follows the path's symbolic links to a regular file.
func resolve(path string) (string, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("hosts file: %w", err)
	}
	info, err := os.Stat(resolved)
	if err != nil {
		return "", fmt.Errorf("hosts file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("hosts file %s: not a regular file", path)
	}
	return resolved, nil
}

// writable says why a file can't be written.
func writable(resolved string) error {
	probe, err := os.OpenFile(resolved, os.O_RDWR, 0)
	if err == nil {
		err = probe.Close()
	}
	if err != nil {
		return fmt.Errorf("hosts file: %w", explain(err))
	}
	return nil
}

// hidden returns the path of a file of ours beside the hosts file.
func hidden(path, kind string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".kubeshore-"+kind)
}

// Set makes table the whole of the owner's names; an empty table leaves the file
// as it would be without them. It returns the names that can't be had, and why. It
// may be called by several goroutines at once.
func (f *File) Set(ctx context.Context, table map[netip.Addr][]string) (refused map[string]error, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asWritten(table) {
		return f.refused, nil
	}
	f.written = nil
	// The link is followed anew for each write: systems replace it.
	if f.path, err = resolve(f.given); err != nil {
		return nil, err
	}
	writing, err := wait(ctx, f.path, "lock")
	if err == nil {
		refused, f.written, err = f.set(ctx, table)
		err = errors.Join(err, writing.release())
	}
	if err != nil {
		f.written = nil
		return nil, fmt.Errorf("hosts file %s: %w", f.given, explain(err))
	}
	f.table, f.refused = table, refused
	return refused, nil
}

// Writes returns how often the file was written. Anyone may call it at any time.
func (f *File) Writes() uint64 { return f.writes.Load() }

// asWritten tells whether the last Set was for the same table, and nobody has
// written the file since.
func (f *File) asWritten(table map[netip.Addr][]string) bool {
	return f.written != nil && maps.EqualFunc(table, f.table, slices.Equal) && f.untouched()
}

// untouched tells whether the file is the one that was written last.
func (f *File) untouched() bool {
	if f.written == nil {
		return false
	}
	path, err := filepath.EvalSymlinks(f.given)
	if err != nil || path != f.path {
		return false
	}
	now, err := os.Stat(path)
	return err == nil && os.SameFile(now, f.written) && now.Size() == f.written.Size() && now.ModTime().Equal(f.written.ModTime())
}

// set reads, rewrites and writes the file, and returns what it then is. What another
// program has written into the file that was replaced is taken up, and written again,
// whatever comes between.
func (f *File) set(ctx context.Context, table map[netip.Addr][]string) (refused map[string]error, is os.FileInfo, err error) {
	there, is, err := read(ctx, f.path)
	if err != nil {
		return nil, nil, err
	}
	base := there
	var owed [][]byte // what another program has written, and the file doesn't have
	defer func() { err = errors.Join(err, f.pay(owed)) }()
	for range tries {
		writing := ctx
		if len(owed) > 0 {
			writing = context.WithoutCancel(ctx)
		}
		if err := writing.Err(); err != nil {
			return nil, nil, err
		}
		next, _, refused, err := Rewrite(base, f.owner, table)
		if err != nil || bytes.Equal(next, there) {
			return refused, is, err
		}
		var late []byte
		late, is, err = f.write(writing, there, next)
		switch {
		case errors.Is(err, errChanged):
			if there, is, err = read(writing, f.path); err != nil {
				return nil, nil, err
			}
			base = putBack(there, owed)
		case err != nil:
			return nil, nil, err
		default:
			f.flush.Fire()
			f.writes.Add(1)
			owed = nil
			if late == nil {
				return refused, is, nil
			}
			owed = added(takeOut(late, f.owner).rest, takeOut(next, f.owner).rest)
			there, base = next, late
		}
	}
	return nil, nil, errChanged
}

// pay appends the lines that are owed to another program, and removes the file that they
// were kept in meanwhile. Where they can't be had in the hosts file they stay there.
func (f *File) pay(owed [][]byte) error {
	if len(owed) > 0 {
		if err := appendLines(f.path, owed); err != nil {
			return fmt.Errorf("what another program has written into it is in %s: %w", f.late, err)
		}
	}
	if f.late == "" {
		return nil
	}
	late := f.late
	f.late = ""
	if err := os.Remove(late); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// read returns a file's content, and what the file was just before it was read. A
// program that writes it is given a moment to get through.
func read(ctx context.Context, path string) ([]byte, os.FileInfo, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	for begin := time.Now(); time.Since(begin) < aloneTime; {
		if writing, known := hasWriter(file); !writing || !known {
			break
		}
		if err := backoff.Sleep(ctx, latePause); err != nil {
			return nil, nil, err
		}
	}
	is, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	content, err := io.ReadAll(file)
	return content, is, err
}

// Close gives the owner's part of the file free for other kubeshores. It doesn't
// change the file. It may be called more than once.
func (f *File) Close() error { return f.running.release() }

// tries is how often Set begins anew because another program wrote the file.
const tries = 20

// errChanged says that another program wrote the file in the meantime.
var errChanged = errors.New("it keeps being changed by another program")
