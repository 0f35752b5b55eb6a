package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/kubeshore/kubeshore/internal/blocking"
	"github.com/kubeshore/kubeshore/pkg/credential"
)

// maxKubeconfig bounds the size of a kubeconfig that is read from a pipe.
const maxKubeconfig = 16 << 20

// Kubeconfig is where contexts come from: a file or several. Regular files are read
// again by each Load. A pipe can be read only once; its content is kept. Any
// goroutine may call its methods.
type Kubeconfig struct {
	paths     []string
	explicit  bool // the path was given, and must exist
	userAgent string
	plugins   *credential.Plugins
	reading   chan struct{} // full while a goroutine reads the files
	existing  atomic.Pointer[[]string]
	reserved  atomic.Pointer[map[string]string]

	kept map[string][]byte // contents of pipes by path; used by that goroutine
}

// NewKubeconfig returns the kubeconfig at a path or, if that is empty, the files that
// kubectl would read. It reads nothing. kept has the contents of pipes that another
// process has read, by path.
func NewKubeconfig(path, userAgent string, plugins *credential.Plugins, kept map[string][]byte) *Kubeconfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = path
	k := MergeKubeconfigs(rules.GetLoadingPrecedence(), userAgent, plugins)
	k.explicit, k.kept = path != "", maps.Clone(kept)
	return k
}

// MergeKubeconfigs returns the kubeconfig in several files, as KUBECONFIG lists them. It
// reads nothing.
func MergeKubeconfigs(paths []string, userAgent string, plugins *credential.Plugins) *Kubeconfig {
	return &Kubeconfig{paths: paths, userAgent: userAgent, plugins: plugins, reading: make(chan struct{}, 1)}
}

// Files returns the paths of the files, including those that don't exist.
func (k *Kubeconfig) Files() []string { return k.paths }

// Existing returns the paths of the files that existed when they were last read.
func (k *Kubeconfig) Existing() []string {
	if existing := k.existing.Load(); existing != nil {
		return *existing
	}
	return nil
}

// ReservedHosts returns the hosts of all contexts, as of the last time that the files
// could be read, that no Service's name may hide, with what each is used for. The map
// must not be changed.
func (k *Kubeconfig) ReservedHosts() map[string]string {
	if reserved := k.reserved.Load(); reserved != nil {
		return *reserved
	}
	return nil
}

// Load returns the named context, or the current one if the name is empty. It
// doesn't connect. It returns when ctx ends, also if a file blocks.
func (k *Kubeconfig) Load(ctx context.Context, name string) (*Cluster, error) {
	return exclusively(ctx, k, func() (*Cluster, error) {
		raw, rules, err := k.read()
		if err != nil {
			return nil, err
		}
		return k.cluster(raw, rules, name)
	})
}

// Contexts returns the names of the contexts, sorted.
func (k *Kubeconfig) Contexts(ctx context.Context) ([]string, error) {
	return exclusively(ctx, k, func() ([]string, error) {
		raw, _, err := k.read()
		if err != nil {
			return nil, err
		}
		return slices.Sorted(maps.Keys(raw.Contexts)), nil
	})
}

// Kept returns the contents of the pipes that were read, by path.
func (k *Kubeconfig) Kept(ctx context.Context) (map[string][]byte, error) {
	return exclusively(ctx, k, func() (map[string][]byte, error) { return maps.Clone(k.kept), nil })
}

// exclusively calls read while nobody else reads the files, so that at most one
// goroutine hangs in a file that blocks.
func exclusively[T any](ctx context.Context, k *Kubeconfig, read func() (T, error)) (T, error) {
	select {
	case k.reading <- struct{}{}:
	case <-ctx.Done():
		var none T
		return none, k.blocked(ctx)
	}
	result, err := blocking.Call(ctx, func() (T, error) {
		defer func() { <-k.reading }()
		return read()
	})
	if err != nil && ctx.Err() != nil {
		err = k.blocked(ctx)
	}
	return result, err
}

// blocked returns the error of a read that took until the end of ctx.
func (k *Kubeconfig) blocked(ctx context.Context) error {
	return fmt.Errorf("kubeconfig %s: %w", strings.Join(k.paths, ", "), context.Cause(ctx))
}

// read returns the merged files, and the rules by which client-go writes refreshed
// tokens into them; nil if there is a pipe among them.
func (k *Kubeconfig) read() (*clientcmdapi.Config, *clientcmd.ClientConfigLoadingRules, error) {
	var existing []string
	pipes := false
	for _, path := range k.paths {
		isPipe, err := k.keepPipe(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("kubeconfig: %w", err)
		}
		existing = append(existing, path)
		pipes = pipes || isPipe
	}
	k.existing.Store(&existing)
	rules := &clientcmd.ClientConfigLoadingRules{Precedence: k.paths}
	if k.explicit {
		rules = &clientcmd.ClientConfigLoadingRules{ExplicitPath: k.paths[0]}
	}
	load := rules.Load
	if pipes {
		load = func() (*clientcmdapi.Config, error) { return k.merge(existing) }
	}
	raw, err := load()
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && len(raw.Contexts) == 0:
		return nil, nil, noKubeconfigError{strings.Join(k.paths, ", ")}
	case err != nil:
		return nil, nil, fmt.Errorf("kubeconfig: %w", err)
	}
	reserved := reservedHosts(raw)
	k.reserved.Store(&reserved)
	if pipes {
		return raw, nil, nil
	}
	return raw, rules, nil
}

// keepPipe reads a pipe, or whatever else isn't a regular file, for the first time.
func (k *Kubeconfig) keepPipe(path string) (isPipe bool, err error) {
	if k.kept[path] != nil {
		return true, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	// A process that inherits a descriptor may be unable to open the file again.
	if _, ok := Descriptor(path); !ok && (info.Mode().IsRegular() || info.IsDir()) {
		return false, nil
	}
	file, err := openPipe(path)
	if err != nil {
		return true, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxKubeconfig+1))
	switch {
	case err != nil:
		return true, err
	case len(content) > maxKubeconfig:
		return true, fmt.Errorf("%s has more than %d bytes", path, maxKubeconfig)
	case len(content) == 0: // as /dev/null; and nothing was lost
		return true, nil
	}
	if k.kept == nil {
		k.kept = make(map[string][]byte)
	}
	k.kept[path] = content
	return true, nil
}

// merge merges the files and the contents of pipes: of entries with the same name the
// first one counts, as in kubectl.
func (k *Kubeconfig) merge(paths []string) (*clientcmdapi.Config, error) {
	merged := clientcmdapi.NewConfig()
	for _, path := range slices.Backward(paths) {
		one, err := k.load(path)
		if err != nil {
			return nil, err
		}
		maps.Copy(merged.Clusters, one.Clusters)
		maps.Copy(merged.AuthInfos, one.AuthInfos)
		maps.Copy(merged.Contexts, one.Contexts)
		if one.CurrentContext != "" {
			merged.CurrentContext = one.CurrentContext
		}
	}
	return merged, nil
}

// load returns the content of one file, with paths relative to its directory.
func (k *Kubeconfig) load(path string) (*clientcmdapi.Config, error) {
	content, isPipe := k.kept[path]
	if !isPipe {
		file, err := clientcmd.LoadFromFile(path)
		if err != nil {
			return nil, err
		}
		return file, clientcmd.ResolveLocalPaths(file)
	}
	config, err := clientcmd.Load(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, cluster := range config.Clusters {
		cluster.LocationOfOrigin = path
	}
	for _, user := range config.AuthInfos {
		user.LocationOfOrigin = path
	}
	for _, entry := range config.Contexts {
		entry.LocationOfOrigin = path
	}
	return config, clientcmd.ResolveLocalPaths(config)
}

// Descriptor returns the descriptor of this process that a path stands for, e.g. the
// /dev/fd/63 of a shell's process substitution.
func Descriptor(path string) (fd int, ok bool) {
	if path == "/dev/stdin" {
		return 0, true
	}
	for _, prefix := range []string{"/dev/fd/", "/proc/self/fd/"} {
		if text, found := strings.CutPrefix(path, prefix); found {
			number, err := strconv.ParseUint(text, 10, 16)
			return int(number), err == nil
		}
	}
	return 0, false
}
