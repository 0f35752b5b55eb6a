package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// writeQuietWindow is how long a file must be unchanged before it is read:
// programs write files in several steps.
const writeQuietWindow = 100 * time.Millisecond

// watchFiles calls changed with the files that may have changed, until ctx ends.
// The files need not exist, but their directories must.
func watchFiles(ctx context.Context, paths []string, changed func([]string)) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer watcher.Close()
	byName := make(map[string]string) // the given path by each watched one
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
			// A watch on the file itself would be lost when the file is replaced.
			if err := watcher.Add(filepath.Dir(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("watch %s: %w", filepath.Dir(name), err)
			}
		}
	}
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
