//go:build linux || darwin

package hosts

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// copyAttributes copies the extended attributes of one file to another (xattr(7)),
// including SELinux labels and access control lists.
func copyAttributes(to, from *os.File) error {
	names, err := readAttribute(func(buffer []byte) (int, error) { return unix.Flistxattr(int(from.Fd()), buffer) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list extended attributes: %w", err)
	}
	for name := range bytes.SplitSeq(bytes.TrimSuffix(names, []byte{0}), []byte{0}) {
		if len(name) == 0 {
			continue
		}
		if err := copyAttribute(to, from, string(name)); err != nil && !isSystemAttribute(string(name)) {
			return fmt.Errorf("copy extended attribute %s: %w", name, err)
		}
	}
	return nil
}

// copyAttribute copies one extended attribute. An attribute that already has the
// right value is not set, because setting it may not be permitted.
func copyAttribute(to, from *os.File, name string) error {
	want, err := getAttribute(from, name)
	if err != nil {
		return err
	}
	if current, err := getAttribute(to, name); err == nil && bytes.Equal(current, want) {
		return nil
	}
	return unix.Fsetxattr(int(to.Fd()), name, want, 0)
}

func getAttribute(file *os.File, name string) ([]byte, error) {
	return readAttribute(func(buffer []byte) (int, error) { return unix.Fgetxattr(int(file.Fd()), name, buffer) })
}

// readAttribute calls get with a buffer of the size that get reports for a nil one.
func readAttribute(get func([]byte) (int, error)) ([]byte, error) {
	for {
		size, err := get(nil)
		if err != nil || size == 0 {
			return nil, err
		}
		buffer := make([]byte, size)
		n, err := get(buffer)
		if errors.Is(err, unix.ERANGE) {
			continue // the value has grown
		}
		if err != nil {
			return nil, err
		}
		return buffer[:n], nil
	}
}
