//go:build !windows

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/kubeshore/kubeshore/pkg/control"
)

// What goes to stderr in the background goes into the log file, and into each that comes
// after it.
func TestStderrFollowsRotation(t *testing.T) {
	own, err := ownStderr()
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	path := filepath.Join(t.TempDir(), "log")
	file, err := openLogFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	file.max = 100
	defer func() {
		if err := unix.Dup2(int(own.Fd()), 2); err != nil {
			t.Fatal(err)
		}
	}()
	if err := file.takeStderr(); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := fmt.Fprintf(file, "%s\n", strings.Repeat("x", 90)); err != nil {
			t.Fatal(err)
		}
		said := fmt.Sprintf("panic %d\n", i)
		if _, err := os.Stderr.WriteString(said); err != nil {
			t.Fatal(err)
		}
		if content, err := os.ReadFile(path); err != nil || !strings.HasSuffix(string(content), "\n"+said) {
			t.Errorf("the file has %q, %v", content, err)
		}
	}
}

// What a process that starts a daemon has got from its caller the daemon doesn't get.
func TestCloseOnExec(t *testing.T) {
	fd, err := unix.Dup(0) // which programs that are started inherit
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	closeOnExec()
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("its flags are %d, %v", flags, err)
	}
}

// Who has started a daemon shows what that says as it would its own log, and its last line.
func TestShow(t *testing.T) {
	at := time.Date(2025, 3, 1, 9, 30, 0, 0, time.UTC)
	var said bytes.Buffer
	log := logrus.New()
	log.SetOutput(&said)
	log.SetFormatter(newFormatter(formatJSON, ""))
	log.WithTime(at).Info("+ web.shop")
	last := "0/1 services ready · waiting for web.shop"
	if err := json.NewEncoder(&said).Encode(saidLast{&last}); err != nil {
		t.Fatal(err)
	}
	said.WriteString("a plugin's words\n")
	log.WithTime(at).WithField("port", 80).Warn("in use")
	for _, c := range []struct {
		by          bool
		more        string
		left        bool
		want, plain string
	}{
		{true, endOfMessage, true, "09:30:00 + web.shop\na plugin's words\n09:30:00 in use port=80\n", ""},
		{true, "{\"half of", false, "09:30:00 + web.shop\na plugin's words\n09:30:00 in use port=80\n{\"half of\n", ""},
		{false, endOfMessage, true, "", said.String()},
	} {
		var plain bytes.Buffer
		seen := newGrid(t, 80)
		on := &screen{out: &plain, width: func() int { return 0 }}
		var by *view
		if c.by {
			on = &screen{out: raw{seen}, live: true, width: func() int { return 80 }}
			by = &view{screen: on}
		}
		left, err := show(on, by, io.MultiReader(bytes.NewReader(said.Bytes()), strings.NewReader(c.more)))
		if left != c.left || err != nil {
			t.Errorf("it is left: %t, %v", left, err)
		}
		if got := strings.TrimPrefix(seen.String(), "\n"); got != c.want || plain.String() != c.plain {
			t.Errorf("it shows\n%s\nand says\n%s", got, plain.String())
		}
	}
}

// A daemon that has ended is over, though what it has left behind has its pipe.
func TestShowEndsWithTheDaemon(t *testing.T) {
	said, says, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	defer says.Close() // which a plugin has
	fmt.Fprintln(says, "everything is taken back")
	if err := said.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	var shown bytes.Buffer
	if left, err := show(&screen{out: &shown, width: func() int { return 0 }}, nil, said); left || err != nil || shown.String() != "everything is taken back\n" {
		t.Errorf("it is left: %t, %v, and says %q", left, err, shown.String())
	}
}

// What goes to the background says what it waits for.
func TestAwaited(t *testing.T) {
	var status control.Status
	status.Synced, status.Contexts = true, []control.Context{{Name: "dev", Namespaces: []string{"shop"}}}
	status.Services = []control.Service{{Name: "web.shop", State: control.Ready}}
	for i, want := range []string{"a.shop", "a.shop, b.shop", "a.shop, b.shop, c.shop", "a.shop, b.shop, c.shop, …"} {
		status.Services = append(status.Services, control.Service{Name: string(rune('a'+i)) + ".shop", State: control.Waiting})
		want = fmt.Sprintf("1/%d services ready · waiting for %s · 0 open · ↑0B ↓0B · dev/shop", i+2, want)
		if got := new(running).awaited(status, control.ReadinessOf(status, nil)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
