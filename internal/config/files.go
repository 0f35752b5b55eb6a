package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/kubeshore/kubeshore/internal/blocking"
)

// writeQuietWindow is how long a file must be unchanged before it is read:
// programs write files in several steps.
const writeQuietWindow = 100 * time.Millisecond

// watchFiles calls changed with the files that may have changed, until ctx ends.
// The files need not exist, but their directories must.
func watchFiles(ctx context.Context, paths []string, changed func([]string)) error {
	watched, err := blocking.Call(ctx, func() (*watchedFiles, error) { return openFiles(ctx, paths) })
	if ctx.Err() != nil {
		return nil // the caller has stopped
	}
	if err != nil {
		return err
	}
	watcher, byName := watched.Watcher, watched.byName
	defer watcher.Close()
	quiet := time.NewTimer(writeQuietWindow)
	defer quiet.Stop()
	quiet.Stop()
	var pending []string
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-watcher.Errors:
			if !ok {
				return errors.New("the file watcher stopped")
			}
			pending = paths // events were lost: any of them may have changed
			quiet.Reset(writeQuietWindow)
		case event := <-watcher.Events:
			if path, ours := byName[event.Name]; ours && event.Op != fsnotify.Chmod {
				pending = append(pending, path)
				quiet.Reset(writeQuietWindow)
			}
		case <-quiet.C:
			changed(pending)
			pending = nil
		}
	}
}

// watchedFiles are the watched directories of files.
type watchedFiles struct {
	*fsnotify.Watcher

	byName map[string]string // the given path by each watched one
}

// openFiles starts to watch files. If ctx has ended meanwhile, nobody is left to close
// the result, so it fails.
func openFiles(ctx context.Context, paths []string) (_ *watchedFiles, err error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			_ = watcher.Close()
		}
	}()
	byName := make(map[string]string)
	for _, path := range paths {
		names := []string{path}
		if target, err := filepath.EvalSymlinks(path); err == nil {
			names = append(names, target)
		}
		for _, name := range names {
			name, err := filepath.Abs(name)
			if err != nil {
				return nil, err
			}
			byName[name] = path
			// A watch on the file itself would be lost when the file is replaced.
			if err := watcher.Add(filepath.Dir(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, fmt.Errorf("watch %s: %w", filepath.Dir(name), err)
			}
		}
	}
	return &watchedFiles{watcher, byName}, nil
}
