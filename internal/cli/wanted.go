package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/internal/project"
	"github.com/kubeshore/kubeshore/pkg/kube"
	"github.com/kubeshore/kubeshore/pkg/plan"
	"github.com/kubeshore/kubeshore/pkg/tunnel"
)

// wanted is what is to be forwarded, as the command line and the files that it
// names say now.
type wanted struct {
	reading    sync.Mutex // of the files, and of said
	said       selection
	kubeconfig string // as the command line has it
	project    string // the file's path
	awaited    bool   // it isn't there yet, and need not be; read's alone
	source     *kube.Source
	now        atomic.Pointer[settings]
	fault      atomic.Pointer[string] // what is wrong with the project's file now; nil if nothing is
	log        logrus.FieldLogger

	mu         sync.Mutex        // for what follows
	current    string            // the context that was the current one at the start
	namespaces map[string]string // the contexts' own, as they first were
}

// newWanted reads the files. projectFile is the path of the project's file; if
// empty, it is looked for in the working directory and above. If there is none,
// the working directory may get one yet.
func newWanted(said selection, kubeconfig, projectFile string, log logrus.FieldLogger) (*wanted, error) {
	w := &wanted{said: said, kubeconfig: kubeconfig, project: projectFile, log: log, namespaces: make(map[string]string)}
	w.source = kube.NewSource(w.cluster)
	if w.project == "" {
		folder, err := os.Getwd()
		if err != nil {
			return nil, err
		}
		if w.project, err = project.Find(folder); err != nil {
			return nil, err
		}
		if w.project == "" {
			w.project, w.awaited = filepath.Join(folder, project.Name), true
		}
	}
	return w, w.read()
}

// cluster finds a context in the kubeconfig as it is now. The current one, and a
// context's own namespace, are those of the start, whatever becomes of them later.
func (w *wanted) cluster(context string) (*kube.Cluster, error) {
	if context == "" {
		w.mu.Lock()
		context = w.current
		w.mu.Unlock()
	}
	cluster, err := kube.Load(w.kubeconfig, context, userAgent())
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if context == "" {
		w.current = cluster.Context
	}
	if namespace, known := w.namespaces[cluster.Context]; known {
		cluster.Namespace = namespace
	} else {
		w.namespaces[cluster.Context] = cluster.Namespace
	}
	return cluster, nil
}

// read takes what the files say now. On an error what they said before stands.
func (w *wanted) read() error {
	w.reading.Lock()
	defer w.reading.Unlock()
	return w.readAs(w.said)
}

// readAs does that with another selection, which is in force from then on. reading must
// be held.
func (w *wanted) readAs(said selection) error {
	file, err := project.Load(w.project)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && (!missing || !w.awaited) {
		return err
	}
	next, err := said.settle(file, w.cluster)
	if err != nil {
		return err
	}
	w.said = said
	next.project = !missing
	w.awaited = missing
	w.now.Store(&next)
	w.source.Set(next.follow)
	return nil
}

// changeNamespaces follows some namespaces of a context more, and some no more. The
// empty context is the first.
func (w *wanted) changeNamespaces(context string, add, remove []string) error {
	w.reading.Lock()
	defer w.reading.Unlock()
	now := w.now.Load()
	i := 0
	if context != "" {
		i = slices.IndexFunc(now.options.Contexts, func(c plan.ContextOptions) bool { return c.Context == context || c.Alias == context })
	}
	if i < 0 {
		return fmt.Errorf("context %s isn't one of those that are forwarded", context)
	}
	of := now.follow[i]
	if of.Namespaces == nil {
		return fmt.Errorf("all namespaces of context %s are forwarded", of.Context)
	}
	for _, namespace := range add {
		if slices.Contains(of.Namespaces, namespace) {
			return fmt.Errorf("namespace %s of context %s is forwarded already", namespace, of.Context)
		}
	}
	for _, namespace := range remove {
		if !slices.Contains(of.Namespaces, namespace) {
			return fmt.Errorf("namespace %s of context %s isn't forwarded", namespace, of.Context)
		}
	}
	said, err := w.said.with(of.Context, add, remove)
	if err != nil {
		return err
	}
	if len(of.Namespaces)+len(add) <= len(distinct(remove)) {
		return errors.New("it is the last namespace: end kubeshore with kubeshore down instead")
	}
	if err := w.readAs(said); err != nil {
		return err
	}
	w.announce()
	return nil
}

// options returns what the plan is made with.
func (w *wanted) options() plan.Options { return w.now.Load().options }

// find returns how a context's cluster is reached.
func (w *wanted) find(context string) (tunnel.Cluster, bool) {
	cluster, ok := w.source.Cluster(context)
	if !ok {
		return tunnel.Cluster{}, false
	}
	return tunnel.Cluster{Config: cluster.Config, Gate: cluster.Gate}, true
}

// files returns the files of the kubeconfig that are there.
func (w *wanted) files() []string {
	return slices.DeleteFunc(kube.Files(w.kubeconfig), func(path string) bool {
		_, err := os.Stat(path)
		return err != nil
	})
}

// announce logs what is forwarded, and whose services have bare names.
func (w *wanted) announce() {
	now := w.now.Load()
	for i, follow := range now.follow {
		where := "all namespaces"
		if follow.Namespaces != nil {
			where = "namespaces " + strings.Join(follow.Namespaces, ", ")
		}
		if i == 0 && len(follow.Namespaces) != 1 {
			where += "; bare names are those of " + now.options.Contexts[0].Namespace
		}
		server := "unknown"
		if cluster, err := w.cluster(follow.Context); err == nil { // else its Status says so
			server = cluster.Server()
		}
		w.log.Infof("context %s (%s), %s", follow.Context, server, where)
	}
	for _, note := range now.notes {
		w.log.Warn(note)
	}
}

// keptText is said of a project's file that is wrong.
const keptText = "; what it said before stands"

// problems says what is wrong with the project's file, in a line.
func (w *wanted) problems() []string {
	if fault := w.fault.Load(); fault != nil {
		return []string{*fault}
	}
	return nil
}

// watch takes up the changes of the files until ctx ends.
func (w *wanted) watch(ctx context.Context) error {
	paths := append(kube.Files(w.kubeconfig), w.project)
	err := watchFiles(ctx, paths, func(changed []string) {
		if slices.ContainsFunc(changed, func(path string) bool { return path != w.project }) {
			w.source.Reload()
		}
		if !slices.Contains(changed, w.project) {
			return
		}
		switch err := w.read(); {
		case err == nil:
			w.fault.Store(nil)
			w.log.Infof("project's file %s has changed", w.project)
			w.announce()
		case !slices.Equal(w.problems(), []string{err.Error() + keptText}):
			text := err.Error() + keptText
			w.fault.Store(&text)
			w.log.Error(text)
		}
	})
	if err != nil {
		w.log.Warnf("changes of %s are not taken up: %v", strings.Join(paths, ", "), err)
	}
	return nil
}

// settleTime is how long a file must have been left alone to be read: programs
// write one in several steps.
const settleTime = 100 * time.Millisecond

// watchFiles calls changed with those of the files that may have changed, until
// ctx ends. They need not exist, but their folders must.
func watchFiles(ctx context.Context, paths []string, changed func([]string)) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer watcher.Close()
	byName := make(map[string]string) // the paths, by those that are watched
	for _, path := range paths {
		names := []string{path}
		if target, err := filepath.EvalSymlinks(path); err == nil {
			names = append(names, target)
		}
		for _, name := range names {
			name, err := filepath.Abs(name)
			if err != nil {
				return err
			}
			byName[name] = path
			// A file that is replaced is another one: its folder is what stays.
			if err := watcher.Add(filepath.Dir(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("watch %s: %w", filepath.Dir(name), err)
			}
		}
	}
	var pending []string
	var settled <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, lost := <-watcher.Errors:
			if !lost {
				return errors.New("the watcher has ended")
			}
			pending, settled = paths, time.After(settleTime) // all of them may have changed
		case event := <-watcher.Events:
			if path, ours := byName[event.Name]; ours && event.Op != fsnotify.Chmod {
				pending, settled = append(pending, path), time.After(settleTime)
			}
		case <-settled:
			changed(pending)
			pending, settled = nil, nil
		}
	}
}
