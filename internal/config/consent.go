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

	"github.com/kubeshore/kubeshore/internal/namepolicy"
	"github.com/kubeshore/kubeshore/internal/printable"
	"github.com/kubeshore/kubeshore/internal/project"
	"github.com/kubeshore/kubeshore/pkg/kube"
)

// decisions returns what a project file, which may come from somebody else, decides
// although only its user may: which clusters to connect to, names outside the cluster's
// domain, and patterns of public names. What the command line sets is the user's own
// decision. cluster finds a context by its name, as for resolve.
func decisions(s *Spec, file project.File, cluster func(context string) (*kube.Cluster, error)) []string {
	cluster = orUnknown(cluster)
	current, _ := cluster("")
	var found []string
	if len(s.Contexts) == 0 {
		for _, c := range file.Contexts {
			if c.Name != current.Context {
				found = append(found, "forward from context "+c.Name)
			}
		}
	}
	for i, c := range s.contexts(file) {
		if i > 0 && c.Alias != "" {
			found = append(found, fmt.Sprintf("add names that end with .%s", c.Alias))
		}
	}
	if s.Domain == "" && file.Domain != "" {
		found = append(found, fmt.Sprintf("add names that end with .%s", file.Domain))
	}
	for _, service := range slices.Sorted(maps.Keys(file.Services)) {
		for _, name := range file.Services[service].Names {
			if !namepolicy.IsClusterName(string(name)) {
				found = append(found, fmt.Sprintf("add the name %s to service %s", name, service))
			}
		}
	}
	for _, pattern := range file.Ingress {
		if len(s.Ingress) == 0 {
			found = append(found, "add hosts of Ingresses that match "+string(pattern))
		}
	}
	return distinct(append(found, patternDecisions(s, file, cluster)...))
}

// patternDecisions returns the decisions about public names of Services. These are not
// looked for in the fields of the file, many of which name a namespace, a context or a
// service: the patterns in force with the file are compared with those without it.
func patternDecisions(s *Spec, file project.File, cluster func(context string) (*kube.Cluster, error)) (found []string) {
	patterns := func(file project.File) []string {
		resolved, _ := resolve(s, file, cluster) // an error of its addresses changes no pattern
		names := resolved.Plan.Names
		return needed(names.Full, names.Patterns)
	}
	without := patterns(project.File{})
	for _, pattern := range patterns(file) {
		suffix, anyPrefix := strings.CutPrefix(pattern, "*.")
		switch {
		case strings.HasPrefix(pattern, "!"), slices.Contains(without, pattern):
		case strings.ContainsAny(suffix, "*?["):
			found = append(found, "add names that match "+pattern)
		case anyPrefix:
			found = append(found, "add names that end with ."+suffix)
		default:
			found = append(found, "add the name "+pattern)
		}
	}
	return found
}

// orUnknown returns cluster without its errors: a context that can't be loaded, or the
// current one if there is none, has only its name. Forwarding from it fails later.
func orUnknown(cluster func(context string) (*kube.Cluster, error)) func(context string) (*kube.Cluster, error) {
	return func(context string) (*kube.Cluster, error) {
		if found, err := cluster(context); err == nil {
			return found, nil
		}
		return &kube.Cluster{Context: context}, nil
	}
}

// UnconfirmedError is the error of a project file with decisions that its user has not
// confirmed.
type UnconfirmedError struct {
	Path      string
	Decisions []string

	allowed project.Allowed
	sum     string
}

func (e *UnconfirmedError) Error() string {
	return fmt.Sprintf("project file %s needs a confirmation to %s", e.Path, strings.Join(e.Decisions, ", "))
}

// Hint returns the command that confirms the file.
func (e *UnconfirmedError) Hint() string {
	if path, ok := printable.ShellWord(e.Path); ok {
		return "read the file, then run kubeshore allow " + path
	}
	return "read the file, then run kubeshore allow in its directory"
}

// Allow remembers the confirmation, for the file's path and content.
func (e *UnconfirmedError) Allow() error { return e.allowed.Add(e.sum, e.Path) }

// Allow confirms the project file at path, or the one that is found in the working
// directory or above, as it is now. It returns the path and the decisions.
func Allow(path string, allowed project.Allowed) (string, []string, error) {
	if path == "" {
		found, err := findProjectFile()
		if err == nil && found == "" {
			err = errors.New("no project file in this directory or above")
		}
		if err != nil {
			return "", nil, err
		}
		path = found
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", nil, err
	}
	file, sum, err := project.LoadFound(path)
	if err != nil {
		return "", nil, err
	}
	unknown := func(string) (*kube.Cluster, error) { return nil, errors.New("the kubeconfig is not read") }
	return path, decisions(new(Spec), file, unknown), allowed.Add(sum, path)
}

// findProjectFile returns the path of the project file in the working directory or
// above; empty if there is none. The error is that of a directory that is gone or
// can't be read.
func findProjectFile() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("working directory: %w", err)
	}
	home, _ := os.UserHomeDir() // without one, only a repository ends the search
	return project.Find(dir, home)
}

// find sets the path of the project file: of the one that is found, or of one that may
// be created later. In a directory that is gone or can't be read there is none.
func (w *Watcher) find() {
	path, err := findProjectFile()
	if err == nil && path == "" {
		path, err = filepath.Abs(project.Name)
		w.optional = true
	}
	if err != nil {
		w.log.Debugf("continuing without a project file: %v", err)
		path, w.optional = "", true
	}
	w.projectFile = path
}

// load reads the project file. One that was found, not named on the command line, has
// to be trusted and confirmed.
func (w *Watcher) load(ctx context.Context, spec *Spec) (project.File, error) {
	switch {
	case w.named:
		return project.Load(w.projectFile)
	case w.projectFile == "":
		return project.File{}, fs.ErrNotExist
	}
	file, sum, err := project.LoadFound(w.projectFile)
	if err != nil {
		return project.File{}, err
	}
	cluster := func(name string) (*kube.Cluster, error) { return w.Cluster(ctx, name) }
	unconfirmed := &UnconfirmedError{Path: w.projectFile, Decisions: decisions(spec, file, cluster), allowed: w.allowed, sum: sum}
	if len(unconfirmed.Decisions) == 0 {
		return file, nil
	}
	switch known, err := w.allowed.Has(sum); {
	case err != nil:
		return project.File{}, err
	case !known:
		return project.File{}, unconfirmed
	}
	return file, nil
}
