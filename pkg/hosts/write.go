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

// write replaces the content there by next: with a rename, so that nobody sees
// half of it, or in place where a rename can't be had, as with a bind mount. It returns
// what the file is then. late is what another program made of the replaced file
// meanwhile; nil if nothing.
func (f *File) write(ctx context.Context, there, next []byte) (late []byte, is os.FileInfo, err error) {
	late, is, err = f.replace(there, next)
	if !canOverwrite(err) && (!diskFull(err) || len(next) > len(there)) {
		return late, is, err
	}
	is, inPlace := f.overwrite(ctx, there, next)
	if inPlace != nil {
		return nil, nil, errors.Join(err, inPlace)
	}
	return nil, is, nil
}

// replace writes a file beside the hosts file that is like it in all but its
// content, and renames it.
func (f *File) replace(there, next []byte) (late []byte, is os.FileInfo, err error) {
	old, err := os.Open(f.path)
	if err != nil {
		return nil, nil, err
	}
	defer old.Close()
	temp := hidden(f.path, "new")
	if is, err = f.prepare(temp, old, there, next); err != nil {
		return nil, nil, err
	}
	if !replacesOpen {
		_ = old.Close() // what is written into it from now on is lost
	}
	exchanged, err := replaceBy(temp, f.path)
	if err != nil {
		return nil, nil, errors.Join(err, os.Remove(temp))
	}
	if exchanged && !isFile(temp, old) { // another program has just put it there
		return nil, nil, f.giveBack(temp, is)
	}
	if !exchanged {
		temp = ""
	}
	if late, err = f.takeLate(temp, old, there); err != nil {
		return nil, nil, fmt.Errorf("after it was replaced: %v", err) //nolint:errorlint // it is no reason to write in place
	}
	if late != nil {
		return late, is, nil // it is written, and the folder flushed, once more
	}
	if temp != "" {
		err = os.Remove(temp)
	}
	return nil, is, errors.Join(err, syncDir(filepath.Dir(f.path)))
}

// prepare writes the new file, and looks whether the old one is still what was read.
func (f *File) prepare(temp string, old *os.File, there, next []byte) (is os.FileInfo, err error) {
	if _, err := removeTemp(f.path); err != nil { // of a killed run
		return nil, err
	}
	if err := f.step("create"); err != nil {
		return nil, err
	}
	w, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	is, err = f.fill(w, old, next)
	err = errors.Join(err, w.Close())
	if err == nil {
		err = errors.Join(f.step("compare"), f.unchanged(there))
	}
	if err == nil {
		err = f.step("rename")
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(temp))
	}
	return is, nil
}

// giveBack puts what another program has put to the path back there, which is at temp
// now, in place of our own file, which is is. If one more has come since, that is the one
// that stays: it would have replaced the first.
func (f *File) giveBack(temp string, is os.FileInfo) error {
	first, err := os.Lstat(temp)
	for tries := 0; err == nil && tries < 2; tries++ {
		if _, err = replaceBy(temp, f.path); err != nil {
			break
		}
		var now os.FileInfo
		if now, err = os.Lstat(temp); err == nil && (os.SameFile(now, is) || os.SameFile(now, first)) {
			return errors.Join(errChanged, os.Remove(temp))
		}
	}
	kept, e := keep(f.path, temp)
	return errors.Join(fmt.Errorf("another program has put a file there, which is %s now", kept), err, e)
}

// isFile tells whether an open file is the one at a path.
func isFile(path string, file *os.File) bool {
	at, err1 := os.Lstat(path)
	is, err2 := file.Stat()
	return err1 == nil && err2 == nil && os.SameFile(at, is)
}

// takeLate returns what another program has made of the replaced file; nil if nothing.
// If so, or if it can't be told, that file, which is at temp, is kept, or a copy of it where
// nothing is at temp.
func (f *File) takeLate(temp string, old *os.File, there []byte) (late []byte, err error) {
	if !replacesOpen {
		return nil, nil
	}
	err = f.step("look back")
	if err == nil {
		late, err = lookBack(old, there)
	}
	var kept string
	switch {
	case err == nil && late == nil:
		return nil, nil
	case temp != "":
		kept, _ = keep(f.path, temp)
	default:
		kept = freeLate(f.path)
		_ = os.WriteFile(kept, late, 0o600) // it is written next: a copy is for the worst
	}
	if err != nil {
		return nil, fmt.Errorf("what was there before is in %s: %w", kept, err)
	}
	f.late = kept
	return late, nil
}

// fill makes a new file like an old one, with another content, and returns what it is.
func (f *File) fill(w, old *os.File, content []byte) (is os.FileInfo, err error) {
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
	if err == nil {
		is, err = w.Stat()
	}
	return is, err
}

func (f *File) unchanged(there []byte) error {
	file, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer file.Close()
	return holds(file, there)
}

// holds tells, by errChanged, whether an open file has another content.
func holds(file *os.File, want []byte) error {
	now, err := wholeOf(file)
	if err == nil && !bytes.Equal(now, want) {
		err = errChanged
	}
	return err
}

// wholeOf reads an open file from its beginning.
func wholeOf(file *os.File) ([]byte, error) {
	return io.ReadAll(io.NewSectionReader(file, 0, 1<<62))
}
