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
	// fileQuietWindow is how long the file must not change before Run checks it, because
	// a program may write it in several steps.
	fileQuietWindow = 50 * time.Millisecond
	// maxFileQuietWindow is how long Run waits for that if a program keeps writing.
	maxFileQuietWindow = time.Second
	// maxChangeInterval limits the interval between two signals of Changed, which grows
	// while another program keeps undoing the changes of Set.
	maxChangeInterval = 5 * time.Second
	// changeResetWindow is how long there must be no change before the next one is
	// signaled without delay.
	changeResetWindow = 20 * time.Second
	// dnsFlushTimeout limits one flush of the DNS cache.
	dnsFlushTimeout = 5 * time.Second
)

// Changed receives a value when another program may have changed the file, e.g. removed
// the block, or added or removed a name that Set needs. The caller then calls Set again.
// Only Run sends on this channel.
func (f *File) Changed() <-chan struct{} { return f.changed.C() }

// Run watches the file until ctx ends. It must be called once.
func (f *File) Run(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch hosts file: %w", err)
	}
	var errorReader sync.WaitGroup
	defer errorReader.Wait()
	defer watcher.Close()
	missed := wake.NewTrigger()
	errorReader.Go(func() { drainErrors(watcher, missed) })
	var set watchSet
	if err := set.update(watcher, f.givenPath); err != nil {
		return err
	}
	signals := backoff.Backoff{Min: fileQuietWindow, Max: maxChangeInterval}
	var interval time.Duration // between the last signal and the next
	var lastSignal, firstEvent time.Time
	check := time.NewTimer(0)
	defer check.Stop()
	for {
		modified := false
		select {
		case <-ctx.Done():
			return nil
		case <-missed.C():
			modified = true
		case event := <-watcher.Events:
			modified = slices.Contains(set.paths, event.Name)
		case <-check.C:
			if err := set.update(watcher, f.givenPath); err != nil {
				return err
			}
			firstEvent = time.Time{}
			if f.unmodified() {
				continue
			}
			if time.Since(lastSignal) > changeResetWindow {
				signals.Reset()
			}
			interval, lastSignal = signals.Next(), time.Now()
			f.changed.Fire()
		}
		if !modified {
			continue
		}
		if firstEvent.IsZero() {
			firstEvent = time.Now()
		}
		quiet := min(fileQuietWindow, maxFileQuietWindow-time.Since(firstEvent))
		check.Reset(max(quiet, interval-time.Since(lastSignal), 0))
	}
}

// FlushAfterWrites flushes the system's DNS cache after each change that Set makes to the
// file, including the last one before ctx ends. It must be called once.
func (f *File) FlushAfterWrites(ctx context.Context) {
	for {
		select {
		case <-f.flushNeeded.C():
			f.flushDNSCache(context.WithoutCancel(ctx))
		case <-ctx.Done():
			select {
			case <-f.flushNeeded.C():
				f.flushDNSCache(context.WithoutCancel(ctx))
			default:
			}
			return
		}
	}
}

// drainErrors fires missed for each error of the watcher, until the watcher is closed: an
// event was lost, or the watch was on a file that is gone. It needs its own goroutine,
// because the watcher holds its lock while it sends an error.
func drainErrors(watcher *fsnotify.Watcher, missed wake.Trigger) {
	for range watcher.Errors {
		missed.Fire()
	}
}

// watchSet is the set of paths that a watcher watches for a hosts file.
type watchSet struct {
	paths []string    // the given path and, if it is a symbolic link, its target
	file  os.FileInfo // the file that has its own watch
}

// update makes the watcher watch the directories of the file and of the symbolic link to
// it. It also watches the file itself on systems where a directory's watch misses some
// writes.
func (w *watchSet) update(watcher *fsnotify.Watcher, givenPath string) error {
	paths := []string{givenPath}
	target, err := filepath.EvalSymlinks(givenPath)
	if err == nil && target != givenPath {
		paths = append(paths, target)
	}
	for _, path := range paths {
		if slices.Contains(w.paths, path) {
			continue
		}
		if err := watcher.Add(filepath.Dir(path)); err != nil {
			return fmt.Errorf("watch hosts file: %w", err)
		}
	}
	w.paths = paths
	if file, _ := os.Stat(target); !dirWatchSeesWrites && file != nil && (w.file == nil || !os.SameFile(file, w.file)) {
		_ = watcher.Remove(target) // the watch on the previous file
		if err := watcher.Add(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("watch hosts file: %w", err)
		}
		w.file = file
	}
	return nil
}

// unmodified reports whether the file is as the last Set left it.
func (f *File) unmodified() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.unmodifiedLocked()
}

func (f *File) flushDNSCache(ctx context.Context) {
	if f.FlushDNSCache == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, dnsFlushTimeout)
	defer cancel()
	f.FlushDNSCache(ctx)
}
