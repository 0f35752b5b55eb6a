package machine

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubeshore/kubeshore/internal/backoff"
)

const (
	// claimsDir is the directory of the claims of root's processes. Files of other
	// users would allow them to keep addresses from everybody.
	claimsDir = "/run/kubeshore-claims"
	// claimsPrefix begins the names of files with claims.
	claimsPrefix = "claims-"
	// claimsLockTimeout is how long to wait for the lock of the directory.
	claimsLockTimeout = 2 * time.Second
	// claimsLockInterval is how often that is tried.
	claimsLockInterval = 10 * time.Millisecond
)

// fileClaims are claims in files, one for each process of root, which holds a lock
// on it (F_OFD_SETLK, fcntl(2)) until it exits. A process of another user has no
// file, and respects those of root, because root's ports come before its own.
//
// The first line of a file has the network namespace, the owner and the process; the
// others have an address each.
type fileClaims struct {
	dir, owner, namespace string
	writable              bool

	file *os.File // the process's own, locked; nil before the first claim
	path string   // of file
	held map[netip.Addr]bool
}

// openClaims returns the claims in a directory, which it creates if it may.
func openClaims(dir, owner string) (claims, error) {
	namespace, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	c := &fileClaims{dir: dir, owner: owner, namespace: namespace, writable: os.Geteuid() == 0}
	if !c.writable {
		return c, nil
	}
	if err := c.makeDir(); err != nil && !errors.Is(err, fs.ErrNotExist) { // removed just now by the last process
		return nil, err
	}
	return c, nil
}

// makeDir creates the directory unless it exists.
func (c *fileClaims) makeDir() error {
	switch err := os.Mkdir(c.dir, 0o755); {
	case err == nil:
		if err := os.Chmod(c.dir, 0o755); err != nil { // whatever the umask is: others may read it
			return err
		}
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	return c.checkDir()
}

// checkDir returns an error if somebody else than root can write to the directory.
func (c *fileClaims) checkDir() error {
	info, err := os.Lstat(c.dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || stat.Uid != 0 || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s must be a directory that only root can write to", c.dir)
	}
	return nil
}

// claim implements [claims].
func (c *fileClaims) claim(ctx context.Context, addrs map[netip.Addr]bool) (refused map[netip.Addr]error, err error) {
	wanted := maps.Clone(addrs)
	maps.DeleteFunc(wanted, func(addr netip.Addr, _ bool) bool { return c.held[addr] })
	if len(wanted) == 0 {
		return nil, nil
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	others, err := c.others()
	if err != nil {
		return nil, err
	}
	refused = make(map[netip.Addr]error)
	for addr := range wanted {
		if holder, ok := others[addr]; ok {
			refused[addr] = fmt.Errorf("address %v is used by kubeshore of %s (pid %d)", addr, describeOwner(holder.owner), holder.pid)
			delete(wanted, addr)
		}
	}
	if !c.writable || len(wanted) == 0 {
		return refused, nil
	}
	maps.Copy(wanted, c.held)
	return refused, c.write(wanted)
}

// release implements [claims].
func (c *fileClaims) release(ctx context.Context, keep map[netip.Addr]bool) error {
	held := maps.Clone(c.held)
	maps.DeleteFunc(held, func(addr netip.Addr, _ bool) bool { return !keep[addr] })
	if len(held) == len(c.held) {
		return nil
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return c.write(held)
}

// close implements [claims]. The last process removes the directory.
func (c *fileClaims) close() error {
	if !c.writable {
		return nil
	}
	unlock, err := c.lock(context.Background())
	if err == nil {
		defer unlock()
	}
	if c.file != nil {
		err = errors.Join(err, os.Remove(c.path), c.file.Close())
		c.file, c.held = nil, nil
	}
	if err != nil {
		return err
	}
	if _, err = c.others(); err != nil { // removes the files of killed processes
		return err
	}
	_, err = c.removeDir()
	return err
}

// removeDir removes the directory unless files with claims are left. The directory must
// be locked.
func (c *fileClaims) removeDir() (removed bool, err error) {
	if left, err := c.files(); err != nil || len(left) > 0 {
		return false, err
	}
	err = os.Remove(c.lockPath())
	rmErr := os.Remove(c.dir)
	if errors.Is(rmErr, unix.ENOTEMPTY) || errors.Is(rmErr, fs.ErrNotExist) { // another process has just begun to use it
		return false, err
	}
	return rmErr == nil, errors.Join(err, rmErr)
}

// cleanClaims implements [CleanClaims] for a directory.
func cleanClaims(ctx context.Context, dir string) (result CleanedClaims, err error) {
	c := &fileClaims{dir: dir, writable: os.Geteuid() == 0}
	if err := c.checkDir(); errors.Is(err, fs.ErrNotExist) {
		return result, nil
	} else if err != nil {
		return result, err
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return result, err
	}
	defer unlock()
	paths, err := c.files()
	for _, path := range paths {
		file, locked, openErr := c.openFile(path)
		if file != nil {
			openErr = file.Close()
		}
		switch {
		case openErr != nil:
			err = errors.Join(err, openErr)
		case file == nil || locked:
		case !c.writable:
			result.Left = append(result.Left, path)
		default:
			err = errors.Join(err, os.Remove(path))
			result.Removed = append(result.Removed, path)
		}
	}
	if err != nil || !c.writable {
		return result, err
	}
	removed, err := c.removeDir()
	if removed {
		result.Removed = append(result.Removed, dir)
	}
	return result, err
}

func (c *fileClaims) lockPath() string { return filepath.Join(c.dir, "lock") }

// files returns the paths of all claims.
func (c *fileClaims) files() ([]string, error) {
	return filepath.Glob(filepath.Join(c.dir, claimsPrefix+"*"))
}

// lock waits for the lock of the directory. Only root can open its file, so nobody
// else can hold it. Processes that only read don't need it.
func (c *fileClaims) lock(ctx context.Context) (unlock func(), err error) {
	if !c.writable {
		return func() {}, nil
	}
	limited, cancel := context.WithTimeout(ctx, claimsLockTimeout)
	defer cancel()
	for {
		file, err := c.tryLock()
		if err == nil {
			return func() { _ = file.Close() }, nil // which releases the lock
		}
		if !errors.Is(err, unix.EAGAIN) || backoff.Sleep(limited, claimsLockInterval) != nil {
			return nil, fmt.Errorf("lock %s: %w", c.dir, err)
		}
	}
}

// tryLock takes the lock of the directory. It returns EAGAIN if another process has
// it, or has just removed the directory.
func (c *fileClaims) tryLock() (*os.File, error) {
	err := c.makeDir()
	var file *os.File
	if err == nil {
		file, err = os.OpenFile(c.lockPath(), os.O_RDWR|os.O_CREATE, 0o600)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, unix.EAGAIN
	}
	if err != nil {
		return nil, err
	}
	err = lockClaims(file)
	if err == nil {
		locked, lockedErr := file.Stat()
		current, currentErr := os.Stat(c.lockPath())
		if lockedErr != nil || currentErr != nil || !os.SameFile(locked, current) {
			err = unix.EAGAIN
		}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// lockClaims locks a file until it is closed. It returns EAGAIN if another process
// has locked it.
func lockClaims(file *os.File) error {
	return unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
}

// isLocked reports whether a process holds the lock of a file. Only a process that
// can write to the file can hold it.
func isLocked(file *os.File) (bool, error) {
	lock := unix.Flock_t{Type: unix.F_RDLCK}
	err := unix.FcntlFlock(file.Fd(), unix.F_OFD_GETLK, &lock)
	return lock.Type != unix.F_UNLCK, err
}

// write replaces the process's file. The new one is locked before it has the old
// one's name, so there is no moment without a claim.
func (c *fileClaims) write(held map[netip.Addr]bool) (err error) {
	file, err := os.CreateTemp(c.dir, claimsPrefix)
	if err != nil {
		return err
	}
	path := file.Name()
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close(), os.Remove(path))
		}
	}()
	if err := lockClaims(file); err != nil {
		return err
	}
	var content bytes.Buffer
	fmt.Fprintf(&content, "%s %s %d\n", c.namespace, c.owner, os.Getpid())
	for _, addr := range slices.SortedFunc(maps.Keys(held), netip.Addr.Compare) {
		fmt.Fprintln(&content, addr)
	}
	if _, err := file.Write(content.Bytes()); err != nil {
		return err
	}
	if err := file.Chmod(0o644); err != nil { // now others may read it
		return err
	}
	target := path
	if c.file != nil {
		target = c.path
		if err := os.Rename(path, target); err != nil {
			return err
		}
		_ = c.file.Close() // nothing was written to it
	}
	c.file, c.path, c.held = file, target, held
	return nil
}

// holder is a process that uses addresses.
type holder struct {
	owner string
	pid   int
}

// others returns the addresses that other processes in this network namespace use.
// It removes the files of processes that have exited.
func (c *fileClaims) others() (map[netip.Addr]holder, error) {
	others := make(map[netip.Addr]holder)
	err := c.checkDir()
	if errors.Is(err, fs.ErrNotExist) {
		return others, nil // only if this process isn't root's
	}
	if err != nil {
		return nil, err
	}
	paths, err := c.files()
	for _, path := range paths {
		if path != c.path || c.file == nil {
			err = errors.Join(err, c.readFile(path, others))
		}
	}
	return others, err
}

// openFile opens a file with claims, and reports whether its process is running. The
// file is nil if there is none: it was removed since it was listed, or is being written.
func (c *fileClaims) openFile(path string) (file *os.File, locked bool, err error) {
	file, err = os.Open(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) && !c.writable {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if locked, err = isLocked(file); err != nil {
		return nil, false, errors.Join(fmt.Errorf("lock of %s: %w", path, err), file.Close())
	}
	return file, locked, nil
}

// readFile adds the addresses of a file to others.
func (c *fileClaims) readFile(path string, others map[netip.Addr]holder) error {
	file, locked, err := c.openFile(path)
	if err != nil || file == nil {
		return err
	}
	defer file.Close()
	if !locked {
		if c.writable {
			return os.Remove(path)
		}
		return nil
	}
	lines := bufio.NewScanner(file)
	lines.Scan()
	header := strings.Fields(lines.Text())
	if len(header) != 3 {
		return fmt.Errorf("%s: invalid first line %q", path, lines.Text())
	}
	pid, err := strconv.Atoi(header[2])
	if err != nil {
		return fmt.Errorf("%s: invalid process ID: %w", path, err)
	}
	if header[0] != c.namespace {
		return nil
	}
	for lines.Scan() {
		addr, err := netip.ParseAddr(lines.Text())
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		others[addr] = holder{header[1], pid}
	}
	return lines.Err()
}
