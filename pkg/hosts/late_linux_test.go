package hosts

import (
	"errors"
	"os"
	"testing"
	"time"
)

// at calls act once, before that step of a write.
func (f *File) at(step string, act func() error) {
	f.step = func(what string) error {
		if what != step {
			return nil
		}
		f.step = func(string) error { return nil }
		return act()
	}
}

// What is appended to the replaced file is kept, though the new one is changed as well
// before it is written again.
func TestFileTakesWhatComesLateToBoth(t *testing.T) {
	f, path := open(t)
	late, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.at("look back", func() error {
		_, err := late.WriteString("10.0.0.1 late")
		return errors.Join(err, late.Close(), appendTo(path, "10.0.0.2 later"))
	})
	set(t, f, table)
	if got, want := content(t, path), original+blockLines+"10.0.0.2 later\n10.0.0.1 late\n"; got != want {
		t.Errorf("it has %q, want %q", got, want)
	}
}

// A file that another program puts there in the moment before ours is renamed is taken
// up, whole.
func TestFileTakesWhatWasRenamedMeanwhile(t *testing.T) {
	f, path := open(t)
	f.at("rename", func() error {
		return errors.Join(os.WriteFile(path+".sed", []byte("10.0.0.1 theirs\n"), 0o640), os.Rename(path+".sed", path))
	})
	set(t, f, table)
	if got, want := content(t, path), "10.0.0.1 theirs\n"+blockLines; got != want {
		t.Errorf("it has %q, want %q", got, want)
	}
	if _, err := os.Stat(hidden(path, "new")); err == nil {
		t.Error("the replaced file is left")
	}
}

// A program that has emptied the file to write it anew is waited for: what it has is
// not yet what it wants.
func TestFileWaitsForAProgramThatWrites(t *testing.T) {
	const anew = "# anew\n"
	for _, step := range []string{"compare", "rename", "look back"} {
		t.Run(step, func(t *testing.T) {
			f, path := open(t)
			writer, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			f.at(step, func() error {
				err := writer.Truncate(0)
				go func() {
					<-time.After(6 * latePause)
					_, err := writer.WriteString(anew)
					done <- errors.Join(err, writer.Close())
				}()
				return err
			})
			set(t, f, table)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if got := content(t, path); got != anew+blockLines {
				t.Errorf("it has %q, want %q", got, anew+blockLines)
			}
		})
	}
}

// One that has it open without writing isn't waited for without end.
func TestFileIsOpenForLong(t *testing.T) {
	f, path := open(t)
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	begin := time.Now()
	set(t, f, table)
	if took := time.Since(begin); took > 3*lateTime {
		t.Errorf("it took %v", took)
	}
	if got := content(t, path); got != original+blockLines {
		t.Errorf("it has %q", got)
	}
}

// What is written right after our own write is another's, and noticed.
func TestFileIsChangedRightAfter(t *testing.T) {
	f, path := open(t)
	running(t, f)
	f.at("look back", func() error { return os.WriteFile(path, []byte(original), 0o644) })
	set(t, f, table)
	<-f.Changed()
	set(t, f, table)
	if got := content(t, path); got != original+blockLines {
		t.Errorf("it has %q", got)
	}
}

// In place, what others write waits until ours is written, and isn't cut off.
func TestFileInPlaceIsWrittenAlone(t *testing.T) {
	f, path := open(t)
	done := make(chan error, 1)
	f.at("overwrite", func() error {
		go func() { done <- appendTo(path, "10.0.0.1 late\n") }()
		select {
		case <-done:
			return errors.New("it doesn't wait")
		case <-time.After(4 * latePause):
			return nil
		}
	})
	if _, err := f.overwrite([]byte(original), []byte(original+blockLines)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := content(t, path); got != original+blockLines+"10.0.0.1 late\n" {
		t.Errorf("it has %q", got)
	}
}
