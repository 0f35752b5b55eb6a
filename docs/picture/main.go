// Command picture draws the README's picture, docs/kubeshore.svg: a session in
// two terminals, with kubeshore in the first and its user in the second. Run it
// in the root of the repository.
//
// With an argument, the kubeconfig of a cluster with the sample application, it
// records the session first. The commands run in real terminals; their prompts
// and keystrokes are added. Recording needs Linux, root, the user nobody, curl
// and bin/kubeshore. The recording is docs/picture/session.json.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

const (
	session = "docs/picture/session.json"
	picture = "docs/kubeshore.svg"
)

// recording is the output to a terminal of a fixed size.
type recording struct {
	Columns, Rows int
	Output        []output
}

type output struct {
	Millisecond int64 // since the start of the session
	Text        string
}

func (r recording) String() string {
	var b strings.Builder
	for _, o := range r.Output {
		b.WriteString(o.Text)
	}
	return b.String()
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 {
		recordings, err := record(args[0])
		if err != nil {
			return fmt.Errorf("record session: %w", err)
		}
		data, err := json.MarshalIndent(recordings, "", " ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(session, append(data, '\n'), 0o644); err != nil {
			return err
		}
	}
	recordings, err := load(session)
	if err != nil {
		return err
	}
	return os.WriteFile(picture, draw(recordings), 0o644)
}

func load(path string) (recordings []recording, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &recordings); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return recordings, nil
}
