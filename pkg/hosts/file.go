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
	changed chan struct{}
	flush   chan struct{}
	step    func(what string) error // before each step of a write; for tests

	mu      sync.Mutex // for one Set at a time
	path    string     // what given leads to: no symbolic link
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
	probe, err := os.OpenFile(resolved, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("hosts file: %w", explain(err))
	}
	if err := probe.Close(); err != nil {
		return nil, fmt.Errorf("hosts file: %w", err)
	}
	running, err := acquire(hidden(resolved, "lock-"+owner))
	if err != nil {
		return nil, fmt.Errorf("hosts file %s: %w", path, err)
	}
	return &File{
		given: path, path: resolved, owner: owner, running: running,
		changed: make(chan struct{}, 1), flush: make(chan struct{}, 1),
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
	writing, err := wait(ctx, hidden(f.path, "lock"))
	if err == nil {
		for range tries {
			if refused, err = f.set(table); !errors.Is(err, errChanged) || ctx.Err() != nil {
				break
			}
		}
		err = errors.Join(err, writing.release())
	}
	if err != nil {
		return nil, fmt.Errorf("hosts file %s: %w", f.given, explain(err))
	}
	f.table, f.refused = table, refused
	f.written, _ = os.Stat(f.path) // unknown is as good: the next Set looks for itself
	return refused, nil
}

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

// set reads, rewrites and writes the file. What another program has written into
// the file that was replaced is taken up, and written again.
func (f *File) set(table map[netip.Addr][]string) (refused map[string]error, err error) {
	if f.path, err = resolve(f.given); err != nil {
		return nil, err
	}
	base, err := os.ReadFile(f.path)
	if err != nil {
		return nil, err
	}
	for there := base; ; {
		next, _, refused, err := Rewrite(base, f.owner, table)
		if err != nil || bytes.Equal(next, there) {
			return refused, err
		}
		late, err := f.write(there, next)
		if err == nil {
			soon(f.flush)
		}
		if err != nil || late == nil {
			return refused, err
		}
		there, base = next, late
	}
}

// Close gives the owner's part of the file free for other kubeshores. It doesn't
// change the file. It may be called more than once.
func (f *File) Close() error { return f.running.release() }

// tries is how often Set begins anew because another program wrote the file.
const tries = 20

// errChanged says that another program wrote the file in the meantime.
var errChanged = errors.New("it keeps being changed by another program")

// write replaces the content there by next: with a rename, so that nobody sees
// half of it, or in place where a rename can't work, as with a bind mount. late is
// what another program made of the replaced file meanwhile; nil if nothing.
func (f *File) write(there, next []byte) (late []byte, err error) {
	late, err = f.replace(there, next)
	if err == nil || errors.Is(err, errChanged) || diskFull(err) && len(next) > len(there) {
		return late, err
	}
	if inPlace := f.overwrite(there, next); inPlace != nil {
		return nil, errors.Join(err, inPlace)
	}
	return nil, nil
}

// replace writes a file beside the hosts file that is like it in all but its
// content, and renames it.
func (f *File) replace(there, next []byte) (late []byte, err error) {
	old, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	defer old.Close()
	temp := hidden(f.path, "new")
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a killed run
		return nil, err
	}
	if err := f.step("create"); err != nil {
		return nil, err
	}
	w, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	renamed := false
	defer func() {
		if !renamed {
			err = errors.Join(err, os.Remove(temp))
		}
	}()
	if err := errors.Join(f.fill(w, old, next), w.Close()); err != nil {
		return nil, err
	}
	if err := errors.Join(f.step("compare"), f.unchanged(there)); err != nil {
		return nil, err
	}
	if err := f.step("rename"); err != nil {
		return nil, err
	}
	if err := os.Rename(temp, f.path); err != nil {
		return nil, err
	}
	renamed = true
	if err := f.step("look back"); err != nil {
		return nil, err
	}
	// A program that had opened the file before it was replaced may have written
	// into it since.
	was, err := io.ReadAll(old)
	if err == nil && !bytes.Equal(was, there) {
		late = was
	}
	return late, errors.Join(err, syncDir(filepath.Dir(f.path)))
}

// fill makes a new file like an old one, with another content.
func (f *File) fill(w, old *os.File, content []byte) error {
	info, err := old.Stat()
	if err == nil {
		err = f.step("write")
	}
	if err == nil {
		_, err = w.Write(content)
	}
	if err == nil {
		err = errors.Join(f.step("attributes"), ownLike(w, info), w.Chmod(info.Mode().Perm()), copyAttributes(w, old))
	}
	if err == nil {
		err = errors.Join(f.step("sync"), w.Sync())
	}
	return err
}

// overwrite writes over the file's content and then cuts what is too long. Room
// for all of it is there before the first byte changes.
func (f *File) overwrite(there, next []byte) (err error) {
	if err := errors.Join(f.step("compare in place"), f.unchanged(there)); err != nil {
		return err
	}
	w, err := os.OpenFile(f.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if more := len(next) - len(there); more > 0 {
		if err := errors.Join(f.step("reserve"), reserve(w, there, next)); err != nil {
			return errors.Join(err, w.Truncate(int64(len(there))))
		}
	}
	if err := f.step("overwrite"); err != nil {
		return errors.Join(err, w.Truncate(int64(len(there))))
	}
	if _, err := w.WriteAt(next, 0); err != nil {
		return err
	}
	if err := errors.Join(f.step("truncate"), w.Truncate(int64(len(next)))); err != nil {
		return err
	}
	return w.Sync()
}

// reserve makes room for next where there is what is there. Where that can't be
// asked for, the part behind the old end is written first.
func reserve(w *os.File, there, next []byte) error {
	err := allocate(w, int64(len(next)))
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if _, err := w.WriteAt(next[len(there):], int64(len(there))); err != nil {
		return err
	}
	return w.Sync()
}

func (f *File) unchanged(there []byte) error {
	now, err := os.ReadFile(f.path)
	if err == nil && !bytes.Equal(now, there) {
		err = errChanged
	}
	return err
}

// soon has a channel of one place receive.
func soon(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
