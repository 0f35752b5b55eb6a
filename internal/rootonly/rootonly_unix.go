//go:build !windows

// Package rootonly finds out whether only root can change what a path leads to.
package rootonly

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxLinks is the number of symbolic links that are followed, as many as by Linux.
const maxLinks = 40

// CheckDirs returns an error that names who besides root can change which file path leads
// to, or create files next to it. The file itself may be missing.
//
// Nobody else can then replace a directory or a symbolic link of the path between this
// check and a later use of the path. A directory in which all users may create files, but
// not remove those of others (/tmp), may lead to a directory of root's, because that
// can't be replaced. It may not have the file itself.
func CheckDirs(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s: must be an absolute path", path)
	}
	dir, err := openRoot()
	left := strings.Split(filepath.Clean(path)[1:], "/")
	for links := 0; err == nil && len(left) > 0; {
		name := left[0]
		left = left[1:]
		entry := filepath.Join(dir.path, name)
		info, statErr := os.Lstat(entry)
		switch {
		case errors.Is(statErr, fs.ErrNotExist) && len(left) == 0:
			return dir.checkExclusive()
		case statErr != nil:
			return statErr
		case dir.sticky && ownerOf(info) != 0:
			return fmt.Errorf("%s belongs to user %d", entry, ownerOf(info))
		case info.Mode()&fs.ModeSymlink != 0:
			if links++; links > maxLinks {
				return &fs.PathError{Op: "resolve", Path: path, Err: unix.ELOOP}
			}
			dir, left, err = follow(entry, dir, left)
		case len(left) == 0 && name != "..": // a link's target may end with ..
			return dir.checkExclusive()
		default:
			dir, err = openDir(entry, info)
		}
	}
	if err != nil {
		return err
	}
	return dir.checkExclusive()
}

// CheckFile returns an error that names who besides root can change the file that path
// leads to, or replace it.
func CheckFile(path string) error {
	if err := CheckDirs(path); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return checkOwner(path, info, false)
}

// follow returns where a symbolic link in dir leads to: a directory, and the rest of the
// path from there.
func follow(link string, dir directory, left []string) (directory, []string, error) {
	target, err := os.Readlink(link)
	if err != nil {
		return directory{}, nil, err
	}
	if filepath.IsAbs(target) {
		dir, err = openRoot()
	}
	var parts []string
	for part := range strings.SplitSeq(target, "/") {
		if part != "" && part != "." {
			parts = append(parts, part)
		}
	}
	return dir, append(parts, left...), err
}

// directory is a directory that only root can change or, if it is sticky, whose entries
// only their owners and root can.
type directory struct {
	path   string // without symbolic links
	sticky bool
}

func openRoot() (directory, error) {
	info, err := os.Lstat("/")
	if err != nil {
		return directory{}, err
	}
	return openDir("/", info)
}

// openDir returns the directory at path, which has the state info.
func openDir(path string, info fs.FileInfo) (directory, error) {
	if !info.IsDir() {
		return directory{}, &fs.PathError{Op: "open", Path: path, Err: unix.ENOTDIR}
	}
	sticky := info.Mode()&fs.ModeSticky != 0 && info.Mode().Perm()&0o022 != 0
	return directory{path, sticky}, checkOwner(path, info, sticky)
}

func (d directory) checkExclusive() error {
	if d.sticky {
		return fmt.Errorf("all users can create files in %s", d.path)
	}
	return nil
}

// checkOwner returns an error if somebody besides root can write to a file or directory,
// unless that is a sticky directory. An access control list shows in the group's bits
// (acl(5)).
func checkOwner(path string, info fs.FileInfo, sticky bool) error {
	switch mode := info.Mode().Perm(); {
	case ownerOf(info) != 0:
		return fmt.Errorf("%s belongs to user %d", path, ownerOf(info))
	case sticky:
		return nil
	case mode&0o002 != 0:
		return fmt.Errorf("all users can write to %s", path)
	case mode&0o020 != 0:
		return fmt.Errorf("group %d can write to %s", groupOf(info), path)
	}
	return nil
}

func ownerOf(info fs.FileInfo) uint32 {
	return info.Sys().(*syscall.Stat_t).Uid //nolint:forcetypeassert // as documented by os
}

func groupOf(info fs.FileInfo) uint32 {
	return info.Sys().(*syscall.Stat_t).Gid //nolint:forcetypeassert // as documented by os
}
