package hosts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/kubeshore/kubeshore/internal/backoff"
	"github.com/kubeshore/kubeshore/internal/wake"
)

const (
	// quiet is how long the file must have been left alone to be looked at: a
	// program may write it in several steps.
	quiet = 50 * time.Millisecond
	// maxQuiet is how long a program is waited for that doesn't leave it alone.
	maxQuiet = time.Second
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
func (f *File) Changed() <-chan struct{} { return f.changed.C() }

// Run watches the file until ctx ends. It must be called once.
func (f *File) Run(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching the hosts file: %w", err)
	}
	var reading sync.WaitGroup
	defer reading.Wait()
	defer watcher.Close()
	missed := wake.NewTrigger()
	reading.Go(func() { readErrors(watcher, missed) })
	var on watched
	if err := on.follow(watcher, f.given); err != nil {
		return err
	}
	pauses := backoff.Backoff{Min: quiet, Max: maxPause}
	var pause time.Duration
	var last, first time.Time // when Changed received, and when the file was seen to change after
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		seen := false
		select {
		case <-ctx.Done():
			return nil
		case <-missed.C():
			seen = true
		case event := <-watcher.Events:
			seen = slices.Contains(on.paths, event.Name)
		case <-due.C:
			if err := on.follow(watcher, f.given); err != nil {
				return err
			}
			first = time.Time{}
			if f.asLeft() {
				continue
			}
			if time.Since(last) > calm {
				pauses.Reset()
			}
			pause, last = pauses.Next(), time.Now()
			f.changed.Fire()
		}
		if seen {
			if first.IsZero() {
				first = time.Now()
			}
			due.Reset(max(min(quiet, maxQuiet-time.Since(first)), pause-time.Since(last), 0))
		}
	}
}

// EmptyCaches empties the system's cache of names after each change of the file that Set
// has made, the last one before ctx ends included. It must be called once.
func (f *File) EmptyCaches(ctx context.Context) {
	for {
		select {
		case <-f.flush.C():
			f.emptyCache(context.WithoutCancel(ctx))
		case <-ctx.Done():
			select {
			case <-f.flush.C():
				f.emptyCache(context.WithoutCancel(ctx))
			default:
			}
			return
		}
	}
}

// readErrors reads what a watcher says to be wrong until that is closed: something was
// missed, or was about a file that is no more. Who uses the watcher must not be the one
// who reads it: it tells of errors with its lock held.
func readErrors(watcher *fsnotify.Watcher, missed wake.Trigger) {
	for range watcher.Errors {
		missed.Fire()
	}
}

// watched is what a watcher has been told of a hosts file.
type watched struct {
	paths []string    // the link and what it leads to
	file  os.FileInfo // the file that is watched by itself
}

// follow has the watcher watch the folders of the file, and of the symbolic link that
// leads to it; and the file itself, where what is written into it may not be seen by
// its folder.
func (w *watched) follow(watcher *fsnotify.Watcher, given string) error {
	paths := []string{given}
	target, err := filepath.EvalSymlinks(given)
	if err == nil && target != given {
		paths = append(paths, target)
	}
	for _, path := range paths {
		if slices.Contains(w.paths, path) {
			continue
		}
		if err := watcher.Add(filepath.Dir(path)); err != nil {
			return fmt.Errorf("watching the hosts file: %w", err)
		}
	}
	w.paths = paths
	if file, _ := os.Stat(target); !seenByFolder && file != nil && (w.file == nil || !os.SameFile(file, w.file)) {
		_ = watcher.Remove(target) // the one that was there before
		if err := watcher.Add(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("watching the hosts file: %w", err)
		}
		w.file = file
	}
	return nil
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
