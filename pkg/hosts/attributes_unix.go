//go:build linux || darwin

package hosts

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// copyAttributes gives a file the extended attributes of another (xattr(7)): the
// label of SELinux and access control lists are such.
func copyAttributes(to, from *os.File) error {
	names, err := attribute(func(into []byte) (int, error) { return unix.Flistxattr(int(from.Fd()), into) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("its attributes: %w", err)
	}
	for name := range bytes.SplitSeq(bytes.TrimSuffix(names, []byte{0}), []byte{0}) {
		if len(name) == 0 {
			continue
		}
		value, err := attribute(func(into []byte) (int, error) { return unix.Fgetxattr(int(from.Fd()), string(name), into) })
		if err == nil {
			err = setAttribute(to, string(name), value)
		}
		if err != nil && !isSystems(string(name)) {
			return fmt.Errorf("its attribute %s: %w", name, err)
		}
	}
	return nil
}

// setAttribute sets an attribute, unless the file has it so by itself: it may not
// be one that can be set.
func setAttribute(to *os.File, name string, value []byte) error {
	has, err := attribute(func(into []byte) (int, error) { return unix.Fgetxattr(int(to.Fd()), name, into) })
	if err == nil && bytes.Equal(has, value) {
		return nil
	}
	return unix.Fsetxattr(int(to.Fd()), name, value, 0)
}

// attribute calls get with as much room as it needs.
func attribute(get func([]byte) (int, error)) ([]byte, error) {
	for {
		size, err := get(nil)
		if err != nil || size == 0 {
			return nil, err
		}
		into := make([]byte, size)
		n, err := get(into)
		if errors.Is(err, unix.ERANGE) {
			continue // it has grown
		}
		if err != nil {
			return nil, err
		}
		return into[:n], nil
	}
}
