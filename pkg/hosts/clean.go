package hosts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Cleaned is what became of a hosts file.
type Cleaned struct {
	Owners  []string // whose blocks, or remains of them, were taken away
	Running []string // whose blocks stand, as their kubeshore runs
	Files   []string // files of killed runs that were removed
	Left    []string // lines that look like a block's, but may be somebody else's
}

// Clean takes away from the hosts file at path, and from beside it, what killed runs
// have left.
func Clean(ctx context.Context, path string) (done Cleaned, err error) {
	resolved, err := resolve(path)
	if err != nil {
		return done, err
	}
	if err := writable(resolved); err != nil {
		return done, err
	}
	content, err := os.ReadFile(resolved)
	if err != nil {
		return done, err
	}
	for _, owner := range owners(content) {
		switch err := cleanOwner(ctx, path, owner); {
		case errors.Is(err, ErrInUse):
			done.Running = append(done.Running, owner)
		case err != nil:
			return done, err
		default:
			done.Owners = append(done.Owners, owner)
		}
	}
	if done.Files, err = removeFiles(ctx, resolved); err != nil {
		return done, err
	}
	content, err = os.ReadFile(resolved)
	done.Left = strays(content)
	return done, err
}

// CleanOwner takes an owner's block away as soon as no kubeshore of that owner runs.
func CleanOwner(ctx context.Context, path, owner string) error {
	resolved, err := resolve(path)
	if err != nil {
		return err
	}
	running, err := wait(ctx, resolved, "lock-"+owner)
	if err != nil {
		return err
	}
	if err := running.release(); err != nil {
		return err
	}
	return cleanOwner(ctx, path, owner)
}

func cleanOwner(ctx context.Context, path, owner string) error {
	f, err := Open(path, owner)
	if err != nil {
		return err
	}
	_, err = f.Set(ctx, nil)
	return errors.Join(err, f.Close())
}

// removeFiles removes the files beside the hosts file that nobody uses any more.
func removeFiles(ctx context.Context, resolved string) (removed []string, err error) {
	writing, err := wait(ctx, resolved, "lock") // then nobody has the temporary file
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, writing.release()) }()
	temp := hidden(resolved, "new")
	if _, err := os.Lstat(temp); err == nil {
		if err := os.Remove(temp); err != nil {
			return nil, err
		}
		removed = append(removed, temp)
	}
	locks, err := filepath.Glob(hidden(resolved, "lock-*"))
	if err != nil {
		return removed, err
	}
	for _, path := range locks {
		stale, err := acquire(resolved, strings.TrimPrefix(path, hidden(resolved, "")))
		if errors.Is(err, ErrInUse) {
			continue
		}
		if err == nil {
			err = stale.release()
		}
		if err != nil {
			return removed, err
		}
		removed = append(removed, path)
	}
	return removed, nil
}

// Addresses returns the addresses that the hosts file at path has names for.
func Addresses(path string) (map[netip.Addr]bool, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	addresses := make(map[netip.Addr]bool)
	for line := range bytes.Lines(content) {
		if fields := strings.Fields(string(line)); len(fields) > 1 {
			if addr, err := netip.ParseAddr(fields[0]); err == nil {
				addresses[addr] = true
			}
		}
	}
	return addresses, nil
}

// Strays returns, quoted, the lines of the file that look like a block's, but may be
// somebody else's: they are left alone.
func (f *File) Strays() ([]string, error) {
	content, err := os.ReadFile(f.given)
	if err != nil {
		return nil, fmt.Errorf("hosts file: %w", err)
	}
	return strays(content), nil
}

// strays returns the lines outside of all blocks that have the shape of a block's,
// and a name that only a cluster's service has; or that were a block's outer ones.
func strays(content []byte) (found []string) {
	rest := content
	for _, owner := range owners(content) {
		rest = takeOut(rest, owner).rest
	}
	for line := range bytes.Lines(rest) {
		text := strings.TrimRight(string(line), "\r\n")
		isService := func(name string) bool { return strings.HasSuffix(name, serviceSuffix) }
		outer := strings.HasPrefix(text, strings.TrimSpace(beginPrefix)) || strings.HasPrefix(text, strings.TrimSpace(endPrefix))
		if outer || isEntry(text, false) && slices.ContainsFunc(strings.Fields(text), isService) {
			found = append(found, fmt.Sprintf("%q", text))
		}
	}
	return found
}
