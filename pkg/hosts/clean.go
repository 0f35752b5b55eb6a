package hosts

import (
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
	"strings"
)

// CleanResult is the outcome of Clean.
type CleanResult struct {
	Owners    []string     // whose blocks, or remains of blocks, were removed
	Addresses []netip.Addr // addresses of removed lines that no other line has
	Running   []string     // owners whose blocks remain because their kubeshore is running
	Files     []string     // removed files of killed processes
	Suspects  []string     // lines and files that were left alone; see [File.Suspects]
}

// Clean removes the leftovers of killed kubeshore processes from the hosts file at path and
// from its directory.
func Clean(ctx context.Context, path string) (result CleanResult, err error) {
	resolved, err := resolve(path)
	if err != nil {
		return result, err
	}
	if err := checkWritable(resolved); err != nil {
		return result, err
	}
	content, err := readIfExists(resolved)
	if err != nil {
		return result, err
	}
	for _, owner := range owners(content) {
		switch addrs, err := cleanOwner(ctx, path, owner); {
		case errors.Is(err, ErrInUse):
			result.Running = append(result.Running, owner)
		case err != nil:
			return result, err
		default:
			result.Owners = append(result.Owners, owner)
			result.Addresses = append(result.Addresses, addrs...)
		}
	}
	if result.Files, err = removeStaleFiles(ctx, resolved); err != nil {
		return result, err
	}
	result.Suspects, err = findSuspects(path, resolved)
	return result, err
}

// CleanStale removes the blocks of owners other than the given one whose kubeshore isn't
// running, e.g. because WSL copied the file from Windows. It leaves a file alone that is a
// mount point: its lock files may be in a directory that this process can't see.
func CleanStale(ctx context.Context, path, except string) (result CleanResult, err error) {
	resolved, err := resolve(path)
	if err != nil {
		return result, err
	}
	content, err := readIfExists(resolved)
	if err != nil || isMountPoint(resolved) {
		return result, err
	}
	for _, owner := range owners(content) {
		if owner == except {
			continue
		}
		addrs, err := cleanOwner(ctx, path, owner)
		switch {
		case errors.Is(err, ErrInUse):
			result.Running = append(result.Running, owner)
		case err != nil:
			return result, err
		default:
			result.Owners, result.Addresses = append(result.Owners, owner), append(result.Addresses, addrs...)
		}
	}
	return result, nil
}

// CleanOwner waits until no kubeshore of the owner is running, and then removes the owner's
// block. It returns the addresses of the block that no other line has, even if the block
// can't be removed: their aliases can be removed all the same.
func CleanOwner(ctx context.Context, path, owner string) ([]netip.Addr, error) {
	resolved, err := resolve(path)
	if err != nil {
		return nil, err
	}
	ownerLock, err := acquire(ctx, resolved, "lock-"+owner)
	if err != nil {
		return nil, err
	}
	if err := ownerLock.release(); err != nil {
		return nil, err
	}
	return cleanOwner(ctx, path, owner)
}

// readIfExists returns a file's content. A missing file is empty.
func readIfExists(path string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return content, err
}

func cleanOwner(ctx context.Context, path, owner string) ([]netip.Addr, error) {
	f, err := Open(path, owner)
	if err != nil {
		return nil, err
	}
	removed, err := removeBlock(ctx, f)
	return slices.SortedFunc(maps.Keys(removed), netip.Addr.Compare), errors.Join(err, f.Close())
}

// removeBlock removes the block from a hosts file, and returns the addresses that no other
// line has.
func removeBlock(ctx context.Context, f *File) (map[netip.Addr]bool, error) {
	before, err := readIfExists(f.path)
	if err != nil {
		return nil, err
	}
	removed := mappedAddresses([]byte(splitBlock(before, f.owner).text))
	if _, err := f.Set(ctx, nil); err != nil {
		return removed, err
	}
	after, err := readIfExists(f.path)
	remaining := mappedAddresses(after)
	maps.DeleteFunc(removed, func(addr netip.Addr, _ bool) bool { return remaining[addr] })
	return removed, err
}

// HasBlock reports whether the hosts file at path has lines of an owner.
func HasBlock(path, owner string) (bool, error) {
	content, err := readIfExists(path)
	if err != nil {
		return false, fmt.Errorf("hosts file: %w", err)
	}
	return splitBlock(content, owner).found, nil
}

// OtherOwners returns the addresses of other owners' lines in the hosts file at path, with
// their owners.
func OtherOwners(path, owner string) (map[netip.Addr]string, error) {
	content, err := readIfExists(path)
	if err != nil {
		return nil, fmt.Errorf("hosts file: %w", err)
	}
	others := make(map[netip.Addr]string)
	for line := range bytes.Lines(content) {
		if !bytes.Contains(line, []byte(tagPrefix)) {
			continue // most lines, without a copy
		}
		text := trimEOL(line)
		address, _, _ := strings.Cut(text, " ")
		addr, err := netip.ParseAddr(address)
		if other := ownerOf(text); err == nil && other != "" && other != owner {
			others[addr] = other
		}
	}
	return others, nil
}

// removeStaleFiles removes the files next to the hosts file that no process uses any more.
func removeStaleFiles(ctx context.Context, resolved string) (removed []string, err error) {
	writeLock, err := acquire(ctx, resolved, "lock") // while it is held, no process uses the temporary file
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, writeLock.release()) }()
	removedTemp, err := removeTemp(resolved)
	if err != nil {
		return nil, err
	}
	if removedTemp {
		removed = append(removed, sidecarPath(resolved, "new"))
	}
	locks, err := filepath.Glob(sidecarPath(resolved, "lock-*"))
	if err != nil {
		return removed, err
	}
	for _, path := range locks {
		staleLock, err := tryAcquire(resolved, strings.TrimPrefix(path, sidecarPath(resolved, "")))
		if errors.Is(err, ErrInUse) {
			continue
		}
		if err != nil {
			return removed, err
		}
		if err := staleLock.release(); err != nil {
			return removed, err
		}
		if !exists(path) { // Windows keeps it
			removed = append(removed, path)
		}
	}
	return removed, nil
}

// mappedAddresses returns the addresses that a hosts file has names for.
func mappedAddresses(content []byte) map[netip.Addr]bool {
	found := make(map[netip.Addr]bool)
	for line := range bytes.Lines(content) {
		fields := strings.Fields(string(line))
		if len(fields) < 2 {
			continue
		}
		if addr, err := netip.ParseAddr(fields[0]); err == nil {
			found[addr] = true
		}
	}
	return found
}

// Suspects returns the lines of the hosts file, quoted, and the files next to it that look
// like leftovers of kubeshore but may belong to the user. They are left alone.
func (f *File) Suspects() ([]string, error) {
	f.mu.Lock()
	resolved := f.path
	f.mu.Unlock()
	return findSuspects(f.givenPath, resolved)
}

func findSuspects(givenPath, resolved string) ([]string, error) {
	content, err := readIfExists(givenPath)
	if err != nil {
		return nil, fmt.Errorf("hosts file: %w", err)
	}
	found := suspectLines(content)
	kept, err := filepath.Glob(sidecarPath(resolved, "late-*"))
	for _, path := range kept {
		found = append(found, path+" (may have lines that another program wrote to the hosts file; check and remove it)")
	}
	return found, err
}

// serviceSuffix is the suffix of a Service's canonical name.
const serviceSuffix = ".svc.cluster.local"

// suspectLines returns, quoted, the lines that look like kubeshore's but name no owner:
// damaged markers, and entries that map a name of a cluster's Service to a loopback address.
func suspectLines(content []byte) (found []string) {
	for line := range bytes.Lines(content) {
		if !bytes.Contains(line, []byte("kubeshore")) && !bytes.Contains(line, []byte(serviceSuffix)) {
			continue // most lines, without a copy
		}
		text := trimEOL(line)
		marker := strings.HasPrefix(text, strings.TrimSpace(beginPrefix)) || strings.HasPrefix(text, strings.TrimSpace(endPrefix))
		names, _, _ := strings.Cut(text, "#")
		fields := strings.Fields(names)
		entry := len(fields) > 1 && slices.ContainsFunc(fields[1:], isServiceName) && isLoopback(fields[0])
		if ownerOf(text) == "" && (marker || entry) {
			found = append(found, fmt.Sprintf("%q", text))
		}
	}
	return found
}

func isLoopback(text string) bool {
	addr, err := netip.ParseAddr(text)
	return err == nil && addr.IsLoopback()
}
