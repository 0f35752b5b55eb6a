//go:build !windows

package launch

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/kubeshore/kubeshore/internal/logevent"
	"github.com/kubeshore/kubeshore/internal/term"
	"github.com/kubeshore/kubeshore/internal/term/termtest"
)

// A daemon in the background doesn't inherit its caller's descriptors.
func TestCloseOnExec(t *testing.T) {
	fd, err := unix.Dup(0) // child processes would inherit it
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	closeOnExec()
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags: got %d, %v, want FD_CLOEXEC", flags, err)
	}
}

// daemonOutput returns what a daemon in the background writes to its starter.
func daemonOutput(t *testing.T) string {
	t.Helper()
	at := time.Date(2025, 3, 1, 9, 30, 0, 0, time.UTC)
	var output bytes.Buffer
	log := logrus.New()
	log.SetOutput(&output)
	log.SetFormatter(term.NewReplayFormatter())
	logevent.With(log.WithTime(at), logevent.Added).Info("+ web.shop")
	if err := term.SendStatus(&output, "0/1 services ready · waiting for web.shop"); err != nil {
		t.Fatal(err)
	}
	output.WriteString("output of a plugin\n")
	log.WithTime(at).WithField("port", 80).Warn("in use")
	return output.String()
}

// In a terminal, the starter of a daemon shows its log and its status line.
func TestOutputInALogView(t *testing.T) {
	for _, c := range []struct {
		more     string
		detached bool
		want     string
	}{
		{endOfOutput, true, "09:30:00 + web.shop\noutput of a plugin\n09:30:00 in use port=80"},
		{"{\"half of", false, "09:30:00 + web.shop\noutput of a plugin\n09:30:00 in use port=80\n{\"half of"},
	} {
		tty, _, grid := termtest.OpenPTY(t, 80)
		out := term.NewAsyncWriter(tty)
		_, view := term.NewLog(out, term.Text, 0)
		detached, err := showOutput(out, view, strings.NewReader(daemonOutput(t)+c.more))
		if detached != c.detached || err != nil {
			t.Errorf("showOutput: got %t, %v, want %t", detached, err, c.detached)
		}
		if got := grid.Await(t, c.want); got != c.want+"\n" {
			t.Errorf("screen: got\n%s\nwant\n%s", got, c.want)
		}
	}
}

// Without a log view, the starter passes on the output as it is.
func TestOutputWithoutALogView(t *testing.T) {
	var shown bytes.Buffer
	want := daemonOutput(t)
	detached, err := showOutput(term.NewAsyncWriter(&shown), nil, io.MultiReader(strings.NewReader(want), strings.NewReader(endOfOutput)))
	if !detached || err != nil || shown.String() != want {
		t.Errorf("got %t, %v, %q, want %q", detached, err, shown.String(), want)
	}
}

// The output of a daemon ends with the daemon, even if a child process keeps the pipe
// open.
func TestOutputEndsWithTheDaemon(t *testing.T) {
	output, stderr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	defer stderr.Close() // as a plugin's
	fmt.Fprintln(stderr, "cleaned up")
	if err := output.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	var shown bytes.Buffer
	if detached, err := showOutput(term.NewAsyncWriter(&shown), nil, output); detached || err != nil || shown.String() != "cleaned up\n" {
		t.Errorf("got %t, %v, %q", detached, err, shown.String())
	}
}
