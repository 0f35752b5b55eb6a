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

// running runs a file until the test ends.
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
	<-f.Changed() // it looks at the file once it watches
}

// A block that another program drops, and names that it frees or takes, are told of,
// and our own writes are not.
func TestChanged(t *testing.T) {
	f, path := openTestFile(t)
	runWatch(t, f)
	mustSet(t, f, testTable)
	for name, write := range map[string]func(text string) error{
		"in place": func(text string) error { return os.WriteFile(path, []byte(text), 0o644) },
		"renamed": func(text string) error {
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
			t.Errorf("%s: %v, %v", name, refused, err)
		}
		if got := readFile(t, path); !strings.Contains(got, "go-ok.shop.svc go-ok.shop go-ok #") {
			t.Errorf("%s: it has %q", name, got)
		}
		if err := write(original); err != nil {
			t.Fatal(err)
		}
		<-f.Changed()
		mustSet(t, f, testTable)
		if got := readFile(t, path); got != original+blockLines {
			t.Errorf("%s: it has %q", name, got)
		}
	}
	mustSet(t, f, nil)
	mustSet(t, f, testTable)
	select {
	case <-f.Changed():
		t.Error("our own writes are told of")
	case <-time.After(5 * fileQuietWindow):
	}
}

// With a program that drops the block whenever it is there nobody fights.
func TestChangedAgainAndAgain(t *testing.T) {
	f, path := openTestFile(t)
	runWatch(t, f)
	mustSet(t, f, testTable)
	told := 0
	for over := time.After(30 * fileQuietWindow); ; told++ {
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
	if told == 0 || told > 6 {
		t.Errorf("within %v it is told of %d times", 30*fileQuietWindow, told)
	}
}

// A program that never leaves the file alone doesn't keep a block that was dropped away.
func TestChangedWithoutEnd(t *testing.T) {
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
			t.Fatal("nobody hears of it")
		}
	}
}

// The link that leads to the file is followed anew: systems replace it.
func TestChangedLink(t *testing.T) {
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
	if got := readFile(t, second); got != original+blockLines {
		t.Errorf("it has %q", got)
	}
}

// The cache of names is emptied after each change, the last one included, and never
// without one.
func TestFlush(t *testing.T) {
	f, _ := openTestFile(t)
	var flushed atomic.Int32
	told := make(chan struct{}, 10)
	f.FlushDNSCache = func(ctx context.Context) {
		if ctx.Err() == nil {
			flushed.Add(1)
		}
		told <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var emptying sync.WaitGroup
	emptying.Go(func() { f.FlushAfterWrites(ctx) })
	mustSet(t, f, testTable)
	mustSet(t, f, testTable)
	<-told
	mustSet(t, f, nil)
	cancel()
	emptying.Wait()
	if n := flushed.Load(); n != 2 {
		t.Errorf("it was emptied %d times, want 2", n)
	}
}

// A watcher that tells of errors, as each exchange of the file may cause one, holds up
// nobody who uses it.
func TestWatcherWithErrors(t *testing.T) {
	f, path := openTestFile(t)
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	missed := wake.NewTrigger()
	var reading sync.WaitGroup
	reading.Go(func() { drainErrors(watcher, missed) })
	reading.Go(func() {
		for range watcher.Events {
		}
	})
	done := make(chan error, 1)
	go func() {
		var on watchSet
		names := []map[netip.Addr][]string{testTable, nil}
		for i := range 200 {
			_, err1 := f.Set(context.Background(), names[i%2])
			err2 := on.update(watcher, path)
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
		t.Fatal("it is held up")
	}
	reading.Wait()
	select {
	case <-missed.C():
	default:
		t.Log("there was no error to tell of")
	}
}
