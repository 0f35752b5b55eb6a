package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

func TestPictureMatchesRecording(t *testing.T) {
	recordings, err := load("session.json")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("../kubeshore.svg")
	if err != nil {
		t.Fatal(err)
	}
	got := draw(recordings)
	if !bytes.Equal(got, want) {
		t.Error("docs/kubeshore.svg isn't what docs/picture/session.json shows: run make picture, and commit both")
	}
	if len(got) > 100_000 {
		t.Errorf("the picture has %d bytes, want at most 100,000", len(got))
	}
	wellFormed(t, got)
}

func TestDraw(t *testing.T) {
	svg := draw([]recording{{Columns: 20, Rows: 5, Output: []output{
		{0, "$ "},
		{100, "go\r\n"},
		{200, "\x1b[1mbusy\x1b[0m"},
		{300, "\r\x1b[K<a> \x1b[32mok\x1b[0m  \x1b[2;38;2;1;2;3mx\x1b[0m ↑\r\n"},
	}}})
	wellFormed(t, svg)
	for _, want := range []string{
		`width="224" height="115"`, // two rows, and one with the cursor
		`<g class="brief" style="animation:show 100ms 0ms"><rect class="cursor" x="40" y="38" width="9" height="18"/><text x="22" y="52" textLength="9">$</text></g>`,
		`<g class="brief" style="animation:show 100ms 200ms"><rect class="cursor" x="58" y="59" width="9" height="18"/><text x="22" y="73" textLength="36"><tspan class="bold">busy</tspan></text></g>`,
		`<g style="animation:hide 100ms"><text x="22" y="52" textLength="36">$ go</text></g>`,
		`<g style="animation:hide 300ms"><text x="22" y="73" textLength="99">&lt;a&gt; <tspan fill="#4cc761">ok  </tspan><tspan class="faint" fill="#010203">x </tspan>↑</text></g>`,
		`<g style="animation:hide 300ms"><rect class="cursor" x="22" y="80" width="9" height="18"/></g>`,
	} {
		if !strings.Contains(string(svg), want) {
			t.Errorf("no %s in\n%s", want, svg)
		}
	}
}

func TestTerminalRecordsCommand(t *testing.T) {
	term := newTerminal(time.Now(), t.TempDir(), []string{"PATH=" + os.Getenv("PATH")})
	if err := term.run(t.Context(), "stty size"); err != nil {
		t.Fatal(err)
	}
	got, want := term.show().String(), prompt+"stty size\x1b[0m\r\n30 84\r\n"+prompt
	if got != want {
		t.Errorf("the terminal shows %q, want %q", got, want)
	}
	if err := term.run(t.Context(), "false"); err == nil {
		t.Error("run false: got no error")
	}
}

func wellFormed(t *testing.T, svg []byte) {
	t.Helper()
	for tokens := xml.NewDecoder(bytes.NewReader(svg)); ; {
		if _, err := tokens.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("the picture isn't well-formed: %v", err)
		}
	}
}
