package hosts

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// write replaces the content there by next: with a rename, so that nobody sees
// half of it, or in place where a rename can't work, as with a bind mount. It returns
// what the file is then. late is what another program made of the replaced file
// meanwhile; nil if nothing.
func (f *File) write(there, next []byte) (late []byte, is os.FileInfo, err error) {
	late, is, err = f.replace(there, next)
	if err == nil || errors.Is(err, errChanged) || diskFull(err) && len(next) > len(there) {
		return late, is, err
	}
	is, inPlace := f.overwrite(there, next)
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
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a killed run
		return nil, nil, err
	}
	if err := f.step("create"); err != nil {
		return nil, nil, err
	}
	w, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, nil, err
	}
	isGone := false // at temp there is nothing of ours
	defer func() {
		if !isGone {
			err = errors.Join(err, os.Remove(temp))
		}
	}()
	is, err = f.fill(w, old, next)
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, nil, err
	}
	if err := errors.Join(f.step("compare"), f.unchanged(there)); err != nil {
		return nil, nil, err
	}
	if err := f.step("rename"); err != nil {
		return nil, nil, err
	}
	exchanged, err := replaceBy(temp, f.path)
	if err != nil {
		return nil, nil, err
	}
	isGone = !exchanged
	if err := f.step("look back"); err != nil {
		return nil, nil, err
	}
	if exchanged { // it may be another one than what was read
		was, err := os.Open(temp)
		if err != nil {
			return nil, nil, err
		}
		defer was.Close()
		old = was
	}
	if late, err = lookBack(old, there); err == nil && late != nil {
		return late, is, nil // it is written, and the folder flushed, once more
	}
	return nil, is, errors.Join(err, syncDir(filepath.Dir(f.path)))
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

// overwrite writes over the file's content and then cuts what is too long. Room
// for all of it is there before the first byte changes.
func (f *File) overwrite(there, next []byte) (is os.FileInfo, err error) {
	if err := f.step("compare in place"); err != nil {
		return nil, err
	}
	w, err := os.OpenFile(f.path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	// Other programs wait until it is written. This process must not open it either.
	leave := alone(w)
	defer leave()
	if err := holds(w, there); err != nil {
		return nil, err
	}
	if more := len(next) - len(there); more > 0 {
		if err := errors.Join(f.step("reserve"), reserve(w, there, next)); err != nil {
			return nil, errors.Join(err, w.Truncate(int64(len(there))))
		}
	}
	if err := f.step("overwrite"); err != nil {
		return nil, errors.Join(err, w.Truncate(int64(len(there))))
	}
	if _, err := w.WriteAt(next, 0); err != nil {
		return nil, err
	}
	if err := errors.Join(f.step("truncate"), w.Truncate(int64(len(next)))); err != nil {
		return nil, err
	}
	if is, err = w.Stat(); err == nil {
		err = holds(w, next) // where others couldn't be made to wait
	}
	leave()
	return is, errors.Join(err, w.Sync())
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
