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
)

// File is a hosts file with a block of ours in it. It is ours alone among the
// kubeshores of this machine until Close.
type File struct {
	path string // no symbolic link
	lock *lock

	mu      sync.Mutex // for one Set at a time
	table   map[netip.Addr][]string
	refused map[string]error
	written os.FileInfo // the file as it was with that table; nil if that is not known
}

// Open takes the hosts file at path, which must be a regular file that can be
// written. Nothing is changed yet, but for a lock file beside it, which tells
// other kubeshores.
func Open(path string) (*File, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("hosts file: %w", err)
	}
	info, err := os.Stat(resolved)
	if err != nil {
		return nil, fmt.Errorf("hosts file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("hosts file %s: not a regular file", path)
	}
	probe, err := os.OpenFile(resolved, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("hosts file: %w", err)
	}
	if err := probe.Close(); err != nil {
		return nil, fmt.Errorf("hosts file: %w", err)
	}
	l, err := acquire(hidden(resolved, "lock"))
	if err != nil {
		return nil, fmt.Errorf("hosts file %s: %w", path, err)
	}
	return &File{path: resolved, lock: l}, nil
}

// hidden returns the path of a file of ours beside the hosts file.
func hidden(path, kind string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".kubeshore-"+kind)
}

// Set makes table the whole of the names that are ours; an empty table leaves
// the file as it would be without us. It returns the names that can't be had,
// and why. It may be called by several goroutines at once.
func (f *File) Set(ctx context.Context, table map[netip.Addr][]string) (refused map[string]error, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asWritten(table) {
		return f.refused, nil
	}
	f.written = nil
	for range tries {
		if refused, err = f.set(table); err == nil {
			f.table, f.refused = table, refused
			f.written, _ = os.Stat(f.path) // unknown is as good: the next Set looks for itself
			return refused, nil
		}
		if !errors.Is(err, errChanged) || ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("hosts file %s: %w", f.path, err)
}

// asWritten tells whether the last Set was for the same table, and nobody has
// written the file since.
func (f *File) asWritten(table map[netip.Addr][]string) bool {
	if f.written == nil || !maps.EqualFunc(table, f.table, slices.Equal) {
		return false
	}
	now, err := os.Stat(f.path)
	return err == nil && os.SameFile(now, f.written) && now.Size() == f.written.Size() && now.ModTime().Equal(f.written.ModTime())
}

// set reads, rewrites and writes the file once.
func (f *File) set(table map[netip.Addr][]string) (refused map[string]error, err error) {
	prev, err := os.ReadFile(f.path)
	if err != nil {
		return nil, err
	}
	next, changed, refused, err := Rewrite(prev, table)
	if err != nil || !changed {
		return refused, err
	}
	return refused, f.write(prev, next)
}

// Close gives the file free for other kubeshores. It doesn't change it. It may
// be called more than once.
func (f *File) Close() error { return f.lock.release() }

// tries is how often Set begins anew because another program wrote the file.
const tries = 20

// errChanged says that another program wrote the file in the meantime.
var errChanged = errors.New("it keeps being changed by another program")

// write replaces the content prev by next: with a rename, so that nobody sees
// half of it, or in place where a rename can't work, as with a bind mount.
func (f *File) write(prev, next []byte) error {
	err := f.replace(prev, next)
	if err == nil || errors.Is(err, errChanged) {
		return err
	}
	if diskFull(err) && len(next) > len(prev) {
		return err // in place there may be room for half of it
	}
	if inPlace := f.overwrite(prev, next); inPlace != nil {
		return errors.Join(err, inPlace)
	}
	return nil
}

// replace writes a file beside the hosts file, with its owner and mode, and
// renames it.
func (f *File) replace(prev, next []byte) (err error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	temp := hidden(f.path, "new")
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a killed run
		return err
	}
	w, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temp))
		}
	}()
	_, err = w.Write(next)
	err = errors.Join(err, own(w, info), w.Chmod(info.Mode().Perm()))
	if err == nil {
		err = w.Sync()
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	if err := f.unchanged(prev); err != nil {
		return err
	}
	if err := os.Rename(temp, f.path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(f.path))
}

// overwrite writes over the file's content and then cuts what is too long.
func (f *File) overwrite(prev, next []byte) (err error) {
	if err := f.unchanged(prev); err != nil {
		return err
	}
	w, err := os.OpenFile(f.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if _, err := w.WriteAt(next, 0); err != nil {
		return err
	}
	if err := w.Truncate(int64(len(next))); err != nil {
		return err
	}
	return w.Sync()
}

func (f *File) unchanged(prev []byte) error {
	now, err := os.ReadFile(f.path)
	if err == nil && !bytes.Equal(now, prev) {
		err = errChanged
	}
	return err
}
