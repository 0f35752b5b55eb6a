package hosts

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
)

// overwrite writes next over what is there, with our block at the end: so the bytes of
// others stand before it, and stay as they are, or, if they stood behind it, move to the
// front, which costs none of them when it is cut short. Room for all of it is there
// before the first byte changes. What the block would be too short for, empty lines fill.
func (f *File) overwrite(ctx context.Context, there, next []byte) (is os.FileInfo, err error) {
	if err := f.step("compare in place"); err != nil {
		return nil, err
	}
	w, err := os.OpenFile(f.path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	// Other programs wait until it is written. This process must not open it either.
	leave, err := alone(ctx, w)
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := holds(w, there); err != nil {
		return nil, err
	}
	next = inPlace(next, f.owner, len(there))
	if len(next) > len(there) {
		if err := errors.Join(f.step("reserve"), reserve(w, there, len(next), f.owner)); err != nil {
			return nil, err
		}
	}
	if err := f.step("overwrite"); err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(there, next) {
		if err := writeOther(w, there, filled(next, f.owner, len(there))); err != nil {
			return nil, err
		}
	}
	if len(next) < len(there) {
		if err := errors.Join(f.step("truncate"), cut(w, len(there), len(next))); err != nil {
			return nil, err
		}
	}
	if is, err = w.Stat(); err == nil {
		err = holds(w, next) // where others couldn't be made to wait
	}
	leave()
	return is, errors.Join(err, w.Sync())
}

// writeOther writes next where what is there is another.
func writeOther(w *os.File, there, next []byte) error {
	same := 0
	for same < min(len(there), len(next)) && there[same] == next[same] {
		same++
	}
	_, err := w.WriteAt(next[same:], int64(same))
	return err
}

// filled returns a content that is as long as size, if it isn't longer: with an empty block
// behind it, which is known for ours if it isn't cut off.
func filled(content []byte, owner string, size int) []byte {
	if len(content) >= size {
		return content
	}
	if block := pad(appendBlock(content, owner, ""), size); len(block) == size {
		return block
	}
	return slices.Concat(content, bytes.Repeat([]byte("\n"), size-len(content)))
}

// inPlace returns a file with its block at the end and, if it has one, not shorter than
// size; if it is longer, then by what an empty block needs.
func inPlace(content []byte, owner string, size int) []byte {
	b := takeOut(content, owner)
	if !b.found {
		return content
	}
	rest := b.without()
	least := size
	if next := appendBlock(rest, owner, b.text); len(next) > size {
		least = size + len(appendBlock(rest, owner, "")) - len(rest)
	}
	return pad(appendBlock(rest, owner, b.text), least)
}

// pad puts empty lines before the last line of a content that is too short.
func pad(content []byte, size int) []byte {
	last := bytes.LastIndexByte(content[:max(len(content)-1, 0)], '\n') + 1
	return slices.Concat(content[:last], bytes.Repeat([]byte("\n"), max(size-len(content), 0)), content[last:])
}

// reserve makes room for size bytes where there is what is there. Where that can't be
// asked for, an empty block that is as long is written behind it.
func reserve(w *os.File, there []byte, size int, owner string) error {
	err := allocate(w, int64(size))
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	room := pad(appendBlock(there, owner, ""), size)
	_, err = w.WriteAt(room[len(there):], int64(len(there)))
	if err == nil {
		err = w.Sync()
	}
	if err != nil {
		return errors.Join(err, cut(w, size, len(there)))
	}
	return nil
}

// cut makes a file shorter that has so many bytes at most. If it has more, another
// program has written there.
func cut(w *os.File, has, size int) error {
	info, err := w.Stat()
	if err == nil && info.Size() > int64(has) {
		err = errChanged
	}
	if err != nil {
		return err
	}
	return w.Truncate(int64(size))
}
