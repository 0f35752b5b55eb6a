package hosts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Cleaned is what became of a hosts file.
type Cleaned struct {
	Owners    []string     // whose blocks, or remains of them, were taken away
	Addresses []netip.Addr // those that their names were for, and that no line has now
	Running   []string     // whose blocks stand, as their kubeshore runs
	Files     []string     // files of killed runs that were removed
	Left      []string     // what looks like a run's, but may be somebody else's
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
		switch addresses, err := cleanOwner(ctx, path, owner); {
		case errors.Is(err, ErrInUse):
			done.Running = append(done.Running, owner)
		case err != nil:
			return done, err
		default:
			done.Owners = append(done.Owners, owner)
			done.Addresses = append(done.Addresses, addresses...)
		}
	}
	if done.Files, err = removeFiles(ctx, resolved); err != nil {
		return done, err
	}
	done.Left, err = left(path, resolved)
	return done, err
}

// CleanOwner takes an owner's block away as soon as no kubeshore of that owner runs. It
// returns the addresses that no line has any more.
func CleanOwner(ctx context.Context, path, owner string) ([]netip.Addr, error) {
	resolved, err := resolve(path)
	if err != nil {
		return nil, err
	}
	running, err := wait(ctx, resolved, "lock-"+owner)
	if err != nil {
		return nil, err
	}
	if err := running.release(); err != nil {
		return nil, err
	}
	return cleanOwner(ctx, path, owner)
}

func cleanOwner(ctx context.Context, path, owner string) ([]netip.Addr, error) {
	f, err := Open(path, owner)
	if err != nil {
		return nil, err
	}
	before, err := os.ReadFile(f.path)
	if err == nil {
		_, err = f.Set(ctx, nil)
	}
	var after []byte
	if err == nil {
		after, err = os.ReadFile(f.path)
	}
	gone, has := addresses([]byte(takeOut(before, owner).text)), addresses(after)
	maps.DeleteFunc(gone, func(addr netip.Addr, _ bool) bool { return has[addr] })
	return slices.SortedFunc(maps.Keys(gone), netip.Addr.Compare), errors.Join(err, f.Close())
}

// HasBlock tells whether the hosts file at path has lines of an owner.
func HasBlock(path, owner string) (bool, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return false, fmt.Errorf("hosts file: %w", err)
	}
	return takeOut(content, owner).found, nil
}

// removeFiles removes the files beside the hosts file that nobody uses any more.
func removeFiles(ctx context.Context, resolved string) (removed []string, err error) {
	writing, err := wait(ctx, resolved, "lock") // then nobody has the temporary file
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, writing.release()) }()
	gone, err := removeTemp(resolved)
	if err != nil {
		return nil, err
	}
	if gone {
		removed = append(removed, hidden(resolved, "new"))
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
		if !exists(path) { // on Windows it stays
			removed = append(removed, path)
		}
	}
	return removed, nil
}

// addresses returns the addresses that lines of a hosts file have names for.
func addresses(content []byte) map[netip.Addr]bool {
	found := make(map[netip.Addr]bool)
	for line := range bytes.Lines(content) {
		if fields := strings.Fields(string(line)); len(fields) > 1 {
			if addr, err := netip.ParseAddr(fields[0]); err == nil {
				found[addr] = true
			}
		}
	}
	return found
}

// Strays returns what looks like a run's, in the file or beside it, but may be somebody
// else's: it is left alone.
func (f *File) Strays() ([]string, error) { return left(f.given, f.path) }

// left returns the lines, quoted, of a hosts file that are left alone, and the files.
func left(given, resolved string) ([]string, error) {
	content, err := os.ReadFile(given)
	if err != nil {
		return nil, fmt.Errorf("hosts file: %w", err)
	}
	found := strays(content)
	kept, err := filepath.Glob(hidden(resolved, "late-*"))
	for _, path := range kept {
		found = append(found, path+", which may have what another program wrote into the hosts file: look, and remove it")
	}
	return found, err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// serviceSuffix is what the first name of a service ends with.
const serviceSuffix = ".svc.cluster.local"

// strays returns, quoted, the lines that are no owner's but look like one's: what was an
// outer line once, and a loopback address with a name that only a cluster's service has.
func strays(content []byte) (found []string) {
	isService := func(name string) bool { return strings.HasSuffix(name, serviceSuffix) }
	for line := range bytes.Lines(content) {
		text := bare(line)
		outer := strings.HasPrefix(text, strings.TrimSpace(beginPrefix)) || strings.HasPrefix(text, strings.TrimSpace(endPrefix))
		names, _, _ := strings.Cut(text, "#")
		fields := strings.Fields(names)
		entry := len(fields) > 1 && slices.ContainsFunc(fields[1:], isService) && isLoopback(fields[0])
		if ownerOf(text) == "" && (outer || entry) {
			found = append(found, fmt.Sprintf("%q", text))
		}
	}
	return found
}

func isLoopback(text string) bool {
	addr, err := netip.ParseAddr(text)
	return err == nil && addr.IsLoopback()
}
