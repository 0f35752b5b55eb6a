package hosts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// writeLocked replaces the content before with next: with a rename, so that no reader
// sees a partial file, or in place if a rename isn't possible, e.g. for a bind mount. It
// returns the file's new state. concurrentWrite is the content of the replaced file if
// another program has changed it meanwhile, and nil otherwise. f.mu must be held.
func (f *File) writeLocked(ctx context.Context, before, next []byte) (concurrentWrite []byte, info os.FileInfo, err error) {
	concurrentWrite, info, err = f.replaceLocked(before, next)
	if !canWriteInPlace(err) && (!isDiskFull(err) || len(next) > len(before)) {
		return concurrentWrite, info, err
	}
	info, inPlaceErr := f.overwriteLocked(ctx, before, next)
	if inPlaceErr != nil {
		return nil, nil, errors.Join(err, inPlaceErr)
	}
	return nil, info, nil
}

// replaceLocked writes a new file next to the hosts file, with the same owner, mode and
// attributes, and renames it over the hosts file. f.mu must be held.
func (f *File) replaceLocked(before, next []byte) (concurrentWrite []byte, info os.FileInfo, err error) {
	old, err := os.Open(f.path)
	if err != nil {
		return nil, nil, err
	}
	defer old.Close()
	temp := sidecarPath(f.path, "new")
	if info, err = f.prepareLocked(temp, old, before, next); err != nil {
		return nil, nil, err
	}
	if !canReadReplaced {
		_ = old.Close() // from now on, concurrent writes are lost
	}
	exchanged, err := renameOver(temp, f.path)
	if err != nil {
		return nil, nil, errors.Join(err, os.Remove(temp))
	}
	if exchanged && !isFileAt(temp, old) { // another program has just replaced the hosts file
		return nil, nil, f.undoExchangeLocked(temp, info)
	}
	if !exchanged {
		temp = ""
	}
	if concurrentWrite, err = f.takeConcurrentWriteLocked(temp, old, before); err != nil {
		return nil, nil, fmt.Errorf("check the replaced file: %v", err) //nolint:errorlint // not a reason to write in place
	}
	if concurrentWrite != nil {
		return concurrentWrite, info, nil // the next write flushes the directory
	}
	if temp != "" {
		err = os.Remove(temp)
	}
	return nil, info, errors.Join(err, syncDir(filepath.Dir(f.path)))
}

// prepareLocked writes the new file to temp, and checks that the old one still has the
// content before. f.mu must be held.
func (f *File) prepareLocked(temp string, old *os.File, before, next []byte) (info os.FileInfo, err error) {
	if _, err := removeTemp(f.path); err != nil { // left by a killed process
		return nil, err
	}
	if err := f.step("create"); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	info, err = f.fillTemp(file, old, next)
	err = errors.Join(err, file.Close())
	if err == nil {
		err = errors.Join(f.step("compare"), f.checkUnmodifiedLocked(before))
	}
	if err == nil {
		err = f.step("rename")
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(temp))
	}
	return info, nil
}

// undoExchangeLocked restores another program's file, which an exchange moved to temp, to
// the hosts file's path. If a third file has appeared there meanwhile, that one stays,
// because it would have replaced the other program's file anyway. ours is the state of our
// own file. f.mu must be held.
func (f *File) undoExchangeLocked(temp string, ours os.FileInfo) error {
	theirs, err := os.Lstat(temp)
	for attempt := 0; err == nil && attempt < 2; attempt++ {
		if _, err = renameOver(temp, f.path); err != nil {
			break
		}
		var current os.FileInfo
		if current, err = os.Lstat(temp); err == nil && (os.SameFile(current, ours) || os.SameFile(current, theirs)) {
			return errors.Join(errModified, os.Remove(temp))
		}
	}
	kept, keepErr := keepReplaced(f.path, temp)
	return errors.Join(fmt.Errorf("another program replaced the file at the same time; its version is in %s", kept), err, keepErr)
}

// isFileAt reports whether the directory entry at path, which must not be a symbolic link,
// is the open file.
func isFileAt(path string, file *os.File) bool {
	entry, err1 := os.Lstat(path)
	opened, err2 := file.Stat()
	return err1 == nil && err2 == nil && os.SameFile(entry, opened)
}

// takeConcurrentWriteLocked returns the content of the replaced file if another program
// has changed it from before, and nil otherwise. If it was changed, or can't be read, it
// stays on disk: the file at temp under another name, or a copy if temp is empty. f.mu
// must be held.
func (f *File) takeConcurrentWriteLocked(temp string, replaced *os.File, before []byte) (concurrentWrite []byte, err error) {
	if !canReadReplaced {
		return nil, nil
	}
	err = f.step("read replaced")
	if err == nil {
		concurrentWrite, err = readReplaced(replaced, before)
	}
	if err == nil && concurrentWrite == nil {
		return nil, nil
	}
	var kept string
	if temp != "" {
		kept, _ = keepReplaced(f.path, temp)
	} else {
		kept = unusedConcurrentPath(f.path)
		_ = os.WriteFile(kept, concurrentWrite, 0o600) // only needed if the next write fails
	}
	if err != nil {
		return nil, fmt.Errorf("%w; the replaced file is in %s", err, kept)
	}
	f.concurrentWritePath = kept
	return concurrentWrite, nil
}

// fillTemp writes content to a new file, copies the owner, mode and attributes of the old
// one to it, and returns the new file's state.
func (f *File) fillTemp(file, old *os.File, content []byte) (info os.FileInfo, err error) {
	oldInfo, err := old.Stat()
	if err != nil {
		return nil, err
	}
	if err := f.step("write"); err != nil {
		return nil, err
	}
	if _, err := file.Write(content); err != nil {
		return nil, err
	}
	if err := errors.Join(f.step("attributes"), copyOwner(file, oldInfo), file.Chmod(oldInfo.Mode().Perm()), copyAttributes(file, old)); err != nil {
		return nil, err
	}
	if err := errors.Join(f.step("sync"), file.Sync()); err != nil {
		return nil, err
	}
	return file.Stat()
}

// checkUnmodifiedLocked returns errModified if the hosts file doesn't have the content
// before. f.mu must be held.
func (f *File) checkUnmodifiedLocked(before []byte) error {
	file, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer file.Close()
	return checkContent(file, before)
}

// checkContent returns errModified if the content of an open file is not want.
func checkContent(file *os.File, want []byte) error {
	same, err := hasContent(file, want)
	if err == nil && !same {
		return errModified
	}
	return err
}

// hasContent reports whether the content of an open file is want, without reading all of
// it into memory.
func hasContent(file *os.File, want []byte) (bool, error) {
	content := io.NewSectionReader(file, 0, 1<<62)
	buffer := make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(content, buffer)
		if !bytes.HasPrefix(want, buffer[:n]) {
			return false, nil
		}
		want = want[n:]
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return len(want) == 0, nil
		}
		if err != nil {
			return false, err
		}
	}
}
