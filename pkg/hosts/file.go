package hosts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// File is a hosts file with a block of ours in it. It is ours alone among the
// kubeshores of this machine until Close.
type File struct {
	path string // no symbolic link
	lock *lock
	mu   sync.Mutex // for one Set at a time
}

// Open takes the hosts file at path, which must be a regular file that can be
// written. Nothing is changed yet. lockPath names a file that tells other
// kubeshores so; its folder is made if need be.
func Open(path, lockPath string) (*File, error) {
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
	l, err := acquire(lockPath)
	if err != nil {
		return nil, fmt.Errorf("hosts file %s: %w", path, err)
	}
	return &File{path: resolved, lock: l}, nil
}

// Set makes table the whole of the names that are ours; an empty table leaves
// the file as it would be without us. It returns the names that can't be had,
// and why. It may be called by several goroutines at once.
func (f *File) Set(ctx context.Context, table map[netip.Addr][]string) (refused map[string]error, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		prev, err := os.ReadFile(f.path)
		if err != nil {
			return nil, fmt.Errorf("hosts file: %w", err)
		}
		next, refused, err := Rewrite(prev, table)
		if err != nil {
			return nil, fmt.Errorf("hosts file %s: %w", f.path, err)
		}
		if next == nil {
			return refused, nil
		}
		err = f.write(prev, next)
		if err == nil {
			return refused, nil
		}
		if !errors.Is(err, errChanged) || ctx.Err() != nil {
			return nil, fmt.Errorf("hosts file %s: %w", f.path, err)
		}
	}
}

// Close gives the file free for other kubeshores. It doesn't change it.
func (f *File) Close() error { return f.lock.release() }

// errChanged says that another program wrote the file in the meantime.
var errChanged = errors.New("it keeps being changed by another program")

// write replaces the content prev by next: with a rename, so that nobody sees
// half of it, or in place where a rename can't work, as with a bind mount.
func (f *File) write(prev, next []byte) error {
	err := f.replace(prev, next)
	if err == nil || errors.Is(err, errChanged) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return err
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
	temp := filepath.Join(filepath.Dir(f.path), "."+filepath.Base(f.path)+".kubeshore")
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
