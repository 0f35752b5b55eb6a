package hosts

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/kubeshore/kubeshore/internal/wake"
)

// runWatch runs File.Run until the test ends.
func runWatch(t *testing.T, f *File) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-f.Changed() // Run signals once after it starts
}

// Changed signals when another program removes the block, or adds or removes names. It
// doesn't signal our own writes.
func TestChangedSignalsOtherPrograms(t *testing.T) {
	f, path := openTestFile(t)
	runWatch(t, f)
	mustSet(t, f, testTable)
	for name, write := range map[string]func(text string) error{
		"in place": func(text string) error { return os.WriteFile(path, []byte(text), 0o644) },
		"rename": func(text string) error {
			other := filepath.Join(filepath.Dir(path), "other")
			if err := os.WriteFile(other, []byte(text), 0o644); err != nil {
				return err
			}
			return os.Rename(other, path)
		},
	} {
		if err := write("127.0.0.1 by-another\n10.0.0.1 db.data\n"); err != nil {
			t.Fatal(err)
		}
		<-f.Changed()
		refused, err := f.Set(t.Context(), testTable)
		if err != nil || len(refused) != 1 || refused["db.data"] == nil {
			t.Errorf("%s: got refused %v, error %v; want db.data refused", name, refused, err)
		}
		if got := readFile(t, path); !strings.Contains(got, "go-ok.shop.svc go-ok.shop go-ok #") {
			t.Errorf("%s: got %q, want the line of go-ok", name, got)
		}
		if err := write(original); err != nil {
			t.Fatal(err)
		}
		<-f.Changed()
		mustSet(t, f, testTable)
		if got := readFile(t, path); got != original+blockLines {
			t.Errorf("%s: got %q, want %q", name, got, original+blockLines)
		}
	}
	mustSet(t, f, nil)
	mustSet(t, f, testTable)
	select {
	case <-f.Changed():
		t.Error("Changed signaled our own writes")
	case <-time.After(5 * fileQuietWindow):
	}
}

// Signals become rarer while another program keeps removing the block.
func TestChangedBacksOff(t *testing.T) {
	f, path := openTestFile(t)
	runWatch(t, f)
	mustSet(t, f, testTable)
	signals := 0
	for over := time.After(30 * fileQuietWindow); ; signals++ {
		if err := os.WriteFile(path, []byte(original), 0o644); err != nil {
			t.Fatal(err)
		}
		select {
		case <-f.Changed():
			mustSet(t, f, testTable)
			continue
		case <-over:
		}
		break
	}
	if signals == 0 || signals > 6 {
		t.Errorf("got %d signals within %v, want 1 to 6", signals, 30*fileQuietWindow)
	}
}

// Changed signals even if another program never stops writing the file.
func TestChangedDuringEndlessWrites(t *testing.T) {
	f, path := openTestFile(t)
	runWatch(t, f)
	mustSet(t, f, testTable)
	if err := os.WriteFile(path, []byte(original), 0o644); err != nil {
		t.Fatal(err)
	}
	touch := time.NewTicker(fileQuietWindow / 2)
	defer touch.Stop()
	for over := time.After(20 * maxFileQuietWindow); ; {
		select {
		case <-f.Changed():
			return
		case <-touch.C:
			if err := os.Chtimes(path, time.Time{}, time.Now()); err != nil {
				t.Fatal(err)
			}
		case <-over:
			t.Fatalf("got no signal within %v", 20*maxFileQuietWindow)
		}
	}
}

// Changed signals when the symbolic link to the file is replaced.
func TestChangedSignalsNewLink(t *testing.T) {
	f, first := openTestFile(t)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "hosts")
	if err := os.Symlink(first, link); err != nil {
		t.Fatal(err)
	}
	f, err := Open(link, testOwner)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	runWatch(t, f)
	mustSet(t, f, testTable)
	second := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(second, []byte(original), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(second, link+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link+".new", link); err != nil {
		t.Fatal(err)
	}
	<-f.Changed()
	mustSet(t, f, testTable)
	wantContent(t, second, original+blockLines)
}

// The DNS cache is flushed after each change, including the last one, and only then.
func TestFlushAfterWrites(t *testing.T) {
	f, _ := openTestFile(t)
	var flushed atomic.Int32
	called := make(chan struct{}, 10)
	f.FlushDNSCache = func(ctx context.Context) {
		if ctx.Err() == nil {
			flushed.Add(1)
		}
		called <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var flusher sync.WaitGroup
	flusher.Go(func() { f.FlushAfterWrites(ctx) })
	mustSet(t, f, testTable)
	mustSet(t, f, testTable)
	<-called
	mustSet(t, f, nil)
	cancel()
	flusher.Wait()
	if n := flushed.Load(); n != 2 {
		t.Errorf("got %d flushes, want 2", n)
	}
}

// Errors of the watcher, which each exchange of the file may cause, don't block its user.
func TestWatcherErrorsDontBlock(t *testing.T) {
	f, path := openTestFile(t)
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	missed := wake.NewTrigger()
	var readers sync.WaitGroup
	readers.Go(func() { drainErrors(watcher, missed) })
	readers.Go(func() {
		for range watcher.Events {
		}
	})
	done := make(chan error, 1)
	go func() {
		var watching watchSet
		names := []map[netip.Addr][]string{testTable, nil}
		for i := range 200 {
			_, err1 := f.Set(context.Background(), names[i%2])
			err2 := watching.update(watcher, path)
			if err := errors.Join(err1, err2); err != nil {
				done <- err
				return
			}
		}
		done <- watcher.Close()
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the watcher is blocked")
	}
	readers.Wait()
	select {
	case <-missed.C():
	default:
		t.Log("the watcher reported no error")
	}
}
