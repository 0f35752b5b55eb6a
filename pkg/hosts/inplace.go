package hosts

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
)

// overwriteLocked replaces the content before with next in place, and returns the file's
// new state. f.mu must be held.
//
// The new content has the block at its end, so that the lines of others keep their place.
// Lines that followed the block move to the front, which loses none of them if the write
// is cut short. The space for the new content is reserved before the first byte changes.
// If the block gets shorter, empty lines fill the difference.
func (f *File) overwriteLocked(ctx context.Context, before, next []byte) (info os.FileInfo, err error) {
	if err := f.step("compare in place"); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(f.path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	// Other programs wait for the release. This process must not open the file either.
	release, err := exclusiveLease(ctx, file)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := checkContent(file, before); err != nil {
		return nil, err
	}
	next = inPlaceLayout(next, f.owner, len(before))
	if len(next) > len(before) {
		if err := errors.Join(f.step("reserve"), reserveSpace(file, before, len(next), f.owner)); err != nil {
			return nil, err
		}
	}
	if err := f.step("overwrite"); err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(before, next) {
		if err := writeDifference(file, before, padWithEmptyBlock(next, f.owner, len(before))); err != nil {
			return nil, err
		}
	}
	if len(next) < len(before) {
		if err := errors.Join(f.step("truncate"), shrink(file, len(before), len(next))); err != nil {
			return nil, err
		}
	}
	if info, err = file.Stat(); err == nil {
		err = checkContent(file, next) // another program may have written if there was no lease
	}
	release()
	return info, errors.Join(err, file.Sync())
}

// writeDifference writes next to a file from the first byte that differs from before.
func writeDifference(file *os.File, before, next []byte) error {
	same := 0
	for same < min(len(before), len(next)) && before[same] == next[same] {
		same++
	}
	_, err := file.WriteAt(next[same:], int64(same))
	return err
}

// padWithEmptyBlock extends content to size with an empty block of the owner, whose lines
// are recognized as the owner's unless they are cut short. If the size doesn't leave room
// for one, it uses empty lines.
func padWithEmptyBlock(content []byte, owner string, size int) []byte {
	if len(content) >= size {
		return content
	}
	if padded := padWithEmptyLines(appendBlock(content, owner, ""), size); len(padded) == size {
		return padded
	}
	return slices.Concat(content, bytes.Repeat([]byte("\n"), size-len(content)))
}

// inPlaceLayout returns content with the owner's block moved to its end. If there is a
// block, the result is padded to size at least. If it has to be longer than that, it
// exceeds size by the length of an empty block or more.
func inPlaceLayout(content []byte, owner string, size int) []byte {
	b := splitBlock(content, owner)
	if !b.found {
		return content
	}
	if b.isWholeFile() {
		return padWithEmptyLines(content, size)
	}
	rest := b.without()
	least := size
	if next := appendBlock(rest, owner, b.text); len(next) > size {
		least = size + len(appendBlock(rest, owner, "")) - len(rest)
	}
	return padWithEmptyLines(appendBlock(rest, owner, b.text), least)
}

// padWithEmptyLines extends content to size with empty lines before its last line.
func padWithEmptyLines(content []byte, size int) []byte {
	last := bytes.LastIndexByte(content[:max(len(content)-1, 0)], '\n') + 1
	return slices.Concat(content[:last], bytes.Repeat([]byte("\n"), max(size-len(content), 0)), content[last:])
}

// reserveSpace makes sure that a file, which has the content before, can grow to size
// bytes. If the system can't preallocate space, it appends an empty block of that length.
func reserveSpace(file *os.File, before []byte, size int, owner string) error {
	err := preallocate(file, int64(size))
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	padded := padWithEmptyLines(appendBlock(before, owner, ""), size)
	_, err = file.WriteAt(padded[len(before):], int64(len(before)))
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		return errors.Join(err, shrink(file, size, len(before)))
	}
	return nil
}

// shrink truncates a file to size. If the file is longer than expected, another program
// has appended to it, and the error is errModified.
func shrink(file *os.File, expected, size int) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() > int64(expected) {
		return errModified
	}
	return file.Truncate(int64(size))
}
