// Package config merges the command line, the project file (kubeshore.yaml) and
// kubefwd's address file into the configuration in force, and follows changes of
// the files.
package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/internal/blocking"
	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/project"
	"github.com/kubeshore/kubeshore/internal/version"
	"github.com/kubeshore/kubeshore/pkg/credential"
	"github.com/kubeshore/kubeshore/pkg/kube"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// Options is the part of the command line that configures the forwarding, and the
// paths of the configuration files.
type Options struct {
	Spec        Spec
	Kubeconfig  string // path; empty: KUBECONFIG or the default
	ProjectFile string // path; empty: kubeshore.yaml in the working directory or above
	Allowed     project.Allowed
	KubefwdFile string // path of kubefwd's address file; empty: none
	// Pipes has the contents of kubeconfigs that another process has read from
	// pipes, by path.
	Pipes map[string][]byte
}

// Watcher holds the configuration in force, and replaces it when the files
// change or a namespace is added or removed. Any goroutine may call its methods.
type Watcher struct {
	// Source watches the clusters of the configuration in force.
	Source *kube.Source

	kubeconfig  *kube.Kubeconfig
	kubefwdFile string
	projectFile string // path; empty if the working directory can't be read
	named       bool   // on the command line
	allowed     project.Allowed
	log         logrus.FieldLogger
	resolved    atomic.Pointer[Resolved]
	problem     atomic.Pointer[string] // of the project file; nil if there is none

	reading  chan struct{} // full while the files are read; guards the next two fields
	spec     Spec
	optional bool // the project file doesn't exist, and need not

	mu         sync.Mutex
	current    string            // the current context at the start
	namespaces map[string]string // each context's namespace when it was first read
	servers    map[string]string // each context's API server when it was last read
}

// NewWatcher returns a watcher that has read nothing yet. plugins runs the credential
// plugins of its clusters.
func NewWatcher(o Options, plugins *credential.Plugins, log logrus.FieldLogger) *Watcher {
	w := &Watcher{
		spec: o.Spec, projectFile: o.ProjectFile, named: o.ProjectFile != "", allowed: o.Allowed, kubefwdFile: o.KubefwdFile, log: log, reading: make(chan struct{}, 1),
		kubeconfig: kube.NewKubeconfig(o.Kubeconfig, version.UserAgent(), plugins, o.Pipes),
		namespaces: make(map[string]string), servers: make(map[string]string),
	}
	w.Source = kube.NewSource(w.Cluster, plugins)
	w.resolved.Store(new(Resolved))
	return w
}

// Open reads the files for the first time. If no project file is named and none is
// found, the working directory may get one later. Errors of kubefwd's file are usage
// errors. Like all methods with a context, it returns when ctx ends, also if a file
// blocks.
func (w *Watcher) Open(ctx context.Context) error {
	_, err := blocking.Call(ctx, func() (struct{}, error) { return struct{}{}, w.addKubefwdFile(w.kubefwdFile) })
	if err != nil {
		return failure.Usage(err)
	}
	w.kubefwdFile = "" // Open may be called again, after a confirmation
	if !w.named {
		_, err := blocking.Call(ctx, func() (struct{}, error) { w.find(); return struct{}{}, nil })
		if err != nil {
			return err
		}
	}
	return w.read(ctx)
}

// addKubefwdFile adds the addresses of kubefwd's file to the spec, in which the
// command line's take precedence.
func (w *Watcher) addKubefwdFile(path string) error {
	if path == "" {
		return nil
	}
	addresses, notes, err := readKubefwdFile(path)
	if err != nil {
		return err
	}
	for _, note := range notes {
		w.log.Warn(note)
	}
	maps.Copy(addresses, w.spec.Addresses)
	w.spec.Addresses = addresses
	return nil
}

// Resolved returns the configuration in force. It must not be changed.
func (w *Watcher) Resolved() *Resolved { return w.resolved.Load() }

// PlanOptions returns the options of the plan in force.
func (w *Watcher) PlanOptions() plan.Options {
	options := w.resolved.Load().Plan
	options.Names.Reserved = ownNames()
	maps.Copy(options.Names.Reserved, w.kubeconfig.ReservedHosts())
	return options
}

// ProjectFile returns the path of the project file; empty if there is none.
func (w *Watcher) ProjectFile() string {
	if !w.resolved.Load().Project {
		return ""
	}
	return w.projectFile
}

// Problems returns the problems of the project file, a line each.
func (w *Watcher) Problems() []string {
	if problem := w.problem.Load(); problem != nil {
		return []string{*problem}
	}
	return nil
}

// Kubeconfig returns the paths of the kubeconfig files that exist.
func (w *Watcher) Kubeconfig() []string { return w.kubeconfig.Existing() }

// Pipes returns the contents of kubeconfigs that were read from pipes, by path.
func (w *Watcher) Pipes(ctx context.Context) (map[string][]byte, error) {
	return w.kubeconfig.Kept(ctx)
}

// Cluster returns a context of the kubeconfig as it is now; the empty name is the
// current context. Which one that is, and a context's own namespace, don't
// change during a run, so that "kubectl config use-context" in another terminal
// has no effect.
func (w *Watcher) Cluster(ctx context.Context, contextName string) (*kube.Cluster, error) {
	if contextName == "" {
		w.mu.Lock()
		contextName = w.current
		w.mu.Unlock()
	}
	cluster, err := w.kubeconfig.Load(ctx, contextName)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if contextName == "" {
		w.current = cluster.Context
	}
	w.servers[cluster.Context] = cluster.Server()
	if namespace, known := w.namespaces[cluster.Context]; known {
		cluster.Namespace = namespace
	} else {
		w.namespaces[cluster.Context] = cluster.Namespace
	}
	return cluster, nil
}

// acquire waits until nobody else reads the files.
func (w *Watcher) acquire(ctx context.Context) error {
	select {
	case w.reading <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (w *Watcher) release() { <-w.reading }

// read reads the project file and resolves the configuration. On an error the
// previous configuration stays in force.
func (w *Watcher) read(ctx context.Context) error {
	if err := w.acquire(ctx); err != nil {
		return err
	}
	defer w.release()
	return w.readLocked(ctx, w.spec)
}

// readLocked is read with another spec, which replaces the one in force if
// there is no error. The caller must have acquired w.
func (w *Watcher) readLocked(ctx context.Context, spec Spec) error {
	file, err := blocking.Call(ctx, func() (project.File, error) { return w.load(ctx, &spec) })
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && (!missing || !w.optional) {
		return err
	}
	next, err := resolve(&spec, file, func(name string) (*kube.Cluster, error) { return w.Cluster(ctx, name) })
	if err != nil {
		return err
	}
	next.Project = !missing
	w.spec, w.optional = spec, missing
	w.resolved.Store(&next)
	w.Source.Set(next.Follow)
	return nil
}

// AddNamespaces follows more namespaces of a context, given by its name or its
// alias; the empty context is the first one.
func (w *Watcher) AddNamespaces(contextName string, namespaces []string) error {
	return w.changeNamespaces(contextName, namespaces, nil)
}

// RemoveNamespaces stops following namespaces of a context, given as for
// AddNamespaces.
func (w *Watcher) RemoveNamespaces(contextName string, namespaces []string) error {
	return w.changeNamespaces(contextName, nil, namespaces)
}

// changeTimeout limits how long a change of the namespaces waits for files that block.
const changeTimeout = 4 * time.Second

func (w *Watcher) changeNamespaces(contextName string, add, remove []string) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), changeTimeout, errors.New("the configuration files can't be read at the moment"))
	defer cancel()
	if err := w.acquire(ctx); err != nil {
		return err
	}
	defer w.release()
	current := w.resolved.Load()
	if len(current.Follow) == 0 {
		return errors.New("kubeshore is starting, and has not read its configuration yet")
	}
	i := 0
	if contextName != "" {
		i = slices.IndexFunc(current.Plan.Contexts, func(c plan.ContextOptions) bool { return c.Context == contextName || c.Alias == contextName })
	}
	if i < 0 {
		return fmt.Errorf("context %s is not forwarded", contextName)
	}
	follow := current.Follow[i]
	if err := checkChange(follow, add, remove); err != nil {
		return err
	}
	spec, err := w.spec.change(follow.Context, add, remove)
	if err != nil {
		return err
	}
	if len(follow.Namespaces)+len(add) <= len(distinct(remove)) {
		return failure.WithHint(errors.New("can't remove the last namespace"), "stop kubeshore with kubeshore down")
	}
	if err := w.readLocked(ctx, spec); err != nil {
		return err
	}
	w.Announce()
	return nil
}

// checkChange returns an error if namespaces of a context can't be added or removed.
func checkChange(follow kube.Follow, add, remove []string) error {
	if follow.Namespaces == nil {
		return fmt.Errorf("all namespaces of context %s are forwarded", follow.Context)
	}
	for _, namespace := range add {
		if slices.Contains(follow.Namespaces, namespace) {
			return fmt.Errorf("namespace %s of context %s is already forwarded", namespace, follow.Context)
		}
	}
	for _, namespace := range remove {
		if !slices.Contains(follow.Namespaces, namespace) {
			return fmt.Errorf("namespace %s of context %s is not forwarded", namespace, follow.Context)
		}
	}
	return nil
}

// Announce logs the contexts and namespaces that are forwarded, and the notes.
func (w *Watcher) Announce() {
	current := w.resolved.Load()
	for i, follow := range current.Follow {
		namespaces := "all namespaces"
		if follow.Namespaces != nil {
			namespaces = "namespaces " + strings.Join(follow.Namespaces, ", ")
		}
		if i == 0 && len(follow.Namespaces) != 1 {
			namespaces += "; short names resolve to namespace " + current.Plan.Contexts[0].Namespace
		}
		w.mu.Lock()
		server := w.servers[follow.Context]
		w.mu.Unlock()
		w.log.Infof("context %s (%s), %s", follow.Context, server, namespaces)
	}
	for _, note := range current.Notes {
		w.log.Warn(note)
	}
}

// Watch applies changes of the kubeconfig and the project file until ctx ends. If
// the files can't be watched it logs that and returns.
func (w *Watcher) Watch(ctx context.Context) {
	projectFiles, err := blocking.Call(ctx, func() ([]string, error) { return w.projectFiles(), nil })
	if err != nil {
		return
	}
	paths := append(slices.Clone(w.kubeconfig.Files()), projectFiles...)
	err = watchFiles(ctx, paths, func(changed []string) {
		ours := func(path string) bool { return slices.Contains(projectFiles, path) }
		if slices.ContainsFunc(changed, func(path string) bool { return !ours(path) }) {
			w.Source.Reload()
		}
		if slices.ContainsFunc(changed, ours) {
			w.reread(ctx)
		}
	})
	if err != nil {
		w.log.Warnf("changes of %s are not followed: %v", strings.Join(paths, ", "), err)
	}
}

// projectFiles returns the paths of the files on which the project file's settings
// depend: its own, and that of the confirmations.
func (w *Watcher) projectFiles() []string {
	switch {
	case w.projectFile == "":
		return nil
	case w.named:
		return []string{w.projectFile}
	}
	_ = os.MkdirAll(filepath.Dir(string(w.allowed)), 0o700) // so that it can be watched; kubeshore allow reports an error
	return []string{w.projectFile, string(w.allowed)}
}

// reread reads the changed project file, and logs the result.
func (w *Watcher) reread(ctx context.Context) {
	err := w.read(ctx)
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		w.problem.Store(nil)
		w.log.Infof("project file %s changed", w.projectFile)
		w.Announce()
		return
	}
	problem := failure.Line(err) + "; keeping the previous settings"
	if old := w.problem.Swap(&problem); old == nil || *old != problem {
		w.log.Error(problem)
	}
}
