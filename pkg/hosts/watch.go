package hosts

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// quiet is how long the file must have been left alone to be looked at: a
	// program may write it in several steps.
	quiet = 50 * time.Millisecond
	// maxPause is between two changes that are told of, where another program
	// doesn't leave the file alone: it may undo what we do.
	maxPause = 5 * time.Second
	// calm is after how long without a change the next one is told of at once.
	calm = 20 * time.Second
	// flushTime is what the emptying of the cache of names may take.
	flushTime = 5 * time.Second
)

// Changed receives when another program may have changed the file, so that Set is
// to be called again: the block may be gone, or a name be free or taken. It needs
// Run.
func (f *File) Changed() <-chan struct{} { return f.changed }

// Run watches the file, and empties the system's cache of names after it has
// changed, until ctx ends. It must be called once.
func (f *File) Run(ctx context.Context) error {
	defer func() {
		select {
		case <-f.flush:
			f.emptyCache(context.WithoutCancel(ctx))
		default:
		}
	}()
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching the hosts file: %w", err)
	}
	defer watcher.Close()
	watched, err := f.watch(watcher, nil)
	if err != nil {
		return err
	}
	var pause time.Duration
	var last time.Time
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.flush:
			f.emptyCache(ctx)
		case err, ok := <-watcher.Errors:
			if !ok {
				return nil
			}
			return fmt.Errorf("watching the hosts file: %w", err)
		case event := <-watcher.Events:
			if slices.Contains(watched, event.Name) {
				due.Reset(max(quiet, pause-time.Since(last)))
			}
		case <-due.C:
			if f.asLeft() {
				continue
			}
			if time.Since(last) > calm {
				pause = 0
			}
			pause, last = min(max(2*pause, quiet), maxPause), time.Now()
			soon(f.changed)
			if watched, err = f.watch(watcher, watched); err != nil {
				return err
			}
		}
	}
}

// watch has the watcher watch the folders of the file, and of the symbolic link
// that leads to it.
func (f *File) watch(watcher *fsnotify.Watcher, watched []string) ([]string, error) {
	paths := []string{f.given}
	if path, err := filepath.EvalSymlinks(f.given); err == nil && path != f.given {
		paths = append(paths, path)
	}
	for _, path := range paths {
		if slices.Contains(watched, path) {
			continue
		}
		if err := watcher.Add(filepath.Dir(path)); err != nil {
			return nil, fmt.Errorf("watching the hosts file: %w", err)
		}
	}
	return paths, nil
}

// asLeft tells whether the file is as the last Set left it.
func (f *File) asLeft() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.untouched()
}

func (f *File) emptyCache(ctx context.Context) {
	if f.Flush == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, flushTime)
	defer cancel()
	f.Flush(ctx)
}
