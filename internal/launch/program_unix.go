//go:build !windows

package launch

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/internal/rootonly"
	"github.com/kubeshore/kubeshore/internal/version"
)

// RootHalfName is the file name of the program that contains only root's half. It is
// installed next to the main program.
const RootHalfName = "kubeshore-root"

// installRemedy is what to do about programs that others than root can replace.
const installRemedy = "install kubeshore where only root can write, with make install"

// rootHalf returns the path of the program to run as root: [RootHalfName] or, without
// one that belongs to this program, this program itself. It warns if others than root can
// replace a program that runs as root.
func rootHalf(log logrus.FieldLogger) string {
	self, err := os.Executable()
	if err != nil {
		return "kubeshore" // not reached on Linux and macOS: the kernel reports the path
	}
	path, err := findRootHalf(self)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		path = self
	case err != nil:
		log.Warnf("%v; the main program runs as root instead", err)
		path = self
	}
	err = rootonly.CheckFile(path)
	if err == nil && os.Geteuid() == 0 { // sudo has run this program too
		err = rootonly.CheckFile(self)
	}
	if err != nil {
		log.Warnf("others than root can replace the program that runs as root: %v; %s", err, installRemedy)
	}
	return path
}

// findRootHalf returns the path of the program next to self that has the same version
// and an owner who can be trusted as much as self's: in a directory like /tmp anybody
// can create a file with its name.
func findRootHalf(self string) (string, error) {
	self, err := filepath.EvalSymlinks(self)
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(self), RootHalfName)
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	ours, err := os.Stat(self)
	if err != nil {
		return "", err
	}
	if owner := ownerOf(info); !info.Mode().IsRegular() || owner != 0 && owner != ownerOf(ours) || info.Mode().Perm()&0o022 != 0 {
		return "", fmt.Errorf("%s: must be a file that only root or the owner of %s can write", path, filepath.Base(self))
	}
	build, err := buildinfo.ReadFile(path)
	if err != nil {
		return "", err
	}
	if got, want := version.Of(build), version.String(); got != want {
		return "", fmt.Errorf("%s is version %s, and kubeshore is %s", path, got, want)
	}
	return path, nil
}

func ownerOf(info fs.FileInfo) uint32 {
	return info.Sys().(*syscall.Stat_t).Uid //nolint:forcetypeassert // as documented by os
}
