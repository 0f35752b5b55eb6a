package hosts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// readOrCreateLocked reads the hosts file like readWhenIdle. If it is missing, it creates
// it if create is set, and otherwise returns nil. f.mu and the write lock must be held.
func (f *File) readOrCreateLocked(ctx context.Context, create bool) ([]byte, os.FileInfo, error) {
	content, info, err := readWhenIdle(ctx, f.path)
	if !errors.Is(err, fs.ErrNotExist) {
		return content, info, err
	}
	if !create {
		return nil, nil, nil
	}
	if err := f.createLocked(); err != nil {
		return nil, nil, err
	}
	return readWhenIdle(ctx, f.path)
}

// createLocked creates the missing hosts file with an empty block, which records that. If
// another program creates it at the same time, that file stays. f.mu and the write lock
// must be held.
func (f *File) createLocked() (err error) {
	temp := sidecarPath(f.path, "new")
	if _, err := removeTemp(f.path); err != nil {
		return err
	}
	file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(temp)) }()
	_, err = file.Write(renderBlock("", f.owner, "\n", createdLine))
	// Every user's programs read the hosts file.
	if err = errors.Join(err, file.Chmod(0o644), file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := f.step("link"); err != nil {
		return err
	}
	if err := os.Link(temp, f.path); err != nil && !errors.Is(err, fs.ErrExist) { // unlike a rename, it replaces no file
		return err
	}
	return nil
}

// removeLocked removes the hosts file, which has the content before. If another program
// has changed it, it stays, and the error is errModified. f.mu and the write lock must be
// held.
func (f *File) removeLocked(before []byte) error {
	temp := sidecarPath(f.path, "new")
	if _, err := removeTemp(f.path); err != nil {
		return err
	}
	if err := f.step("remove"); err != nil {
		return err
	}
	if err := os.Rename(f.path, temp); err != nil {
		return err
	}
	content, err := os.ReadFile(temp)
	if err == nil && bytes.Equal(content, before) {
		return errors.Join(os.Remove(temp), syncDir(filepath.Dir(f.path)))
	}
	if linkErr := os.Link(temp, f.path); linkErr != nil {
		kept, keepErr := keepReplaced(f.path, temp)
		return errors.Join(fmt.Errorf("another program changed the file at the same time; its version is in %s", kept), err, linkErr, keepErr)
	}
	return errors.Join(errModified, err, os.Remove(temp))
}
