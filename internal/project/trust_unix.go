//go:build !windows

package project

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// openFlags keep a named pipe from blocking.
const openFlags = syscall.O_NONBLOCK

// distrust returns why a file isn't trusted: neither the user nor root owns it or the
// link to it, or others can write it. It is empty if the file is trusted.
func distrust(_ *os.File, link, info fs.FileInfo) string {
	for _, each := range []fs.FileInfo{link, info} {
		stat, ok := each.Sys().(*syscall.Stat_t)
		if !ok || stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
			return "belongs to another user"
		}
	}
	stat, _ := info.Sys().(*syscall.Stat_t)
	switch mode := info.Mode().Perm(); {
	case mode&0o002 != 0, mode&0o020 != 0 && !isOwnGroup(stat.Gid):
		return fmt.Sprintf("can be changed by other users (mode %#o)", mode)
	}
	return ""
}

// isOwnGroup reports whether a group is the user's private one, with the user's name,
// which several distributions combine with a umask of 002.
func isOwnGroup(gid uint32) bool {
	me, err := user.Current()
	if err != nil || me.Gid != strconv.FormatUint(uint64(gid), 10) {
		return false
	}
	group, err := user.LookupGroupId(me.Gid)
	return err == nil && group.Name == me.Username
}
