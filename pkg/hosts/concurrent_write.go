package hosts

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/kubeshore/kubeshore/internal/backoff"
)

const (
	// openWriterTimeout is how long a write waits for programs that have the hosts
	// file open for writing, before it starts.
	openWriterTimeout = 200 * time.Millisecond
	// replacedWriterTimeout is how long a write waits, after it has replaced the hosts
	// file, for programs that still have the replaced file open for writing.
	replacedWriterTimeout = time.Second
	// writerPollInterval is the interval between checks for such programs.
	writerPollInterval = 5 * time.Millisecond
	// stableContentWindow is how long the replaced file must not change before it
	// counts as complete, on systems where hasWriter can't tell.
	stableContentWindow = 50 * time.Millisecond
)

// readReplaced returns the content of a replaced file if another program has changed it
// from before since it was read, and nil otherwise. Such a program opened the file
// before it was replaced. A program that has truncated the file is given
// replacedWriterTimeout to finish, because half of its content is of no use.
func readReplaced(replaced *os.File, before []byte) (concurrentWrite []byte, err error) {
	// The wait doesn't end with the caller's context: the replaced file is the only place
	// that has the other program's lines.
	ctx := context.Background()
	last, lastChange := before, time.Now()
	for start := lastChange; ; {
		// Check for writers first: a program can't open the replaced file any more.
		writing, known := hasWriter(replaced)
		same, err := hasContent(replaced, last)
		if err != nil {
			return nil, err
		}
		if !same {
			if last, err = readAll(replaced); err != nil {
				return nil, err
			}
			lastChange = time.Now()
		}
		current := last
		unchanged := bytes.Equal(current, before)
		timedOut := time.Since(start) > replacedWriterTimeout
		switch {
		case timedOut && writing && bytes.HasPrefix(before, current):
			return nil, nil // the writer has added nothing yet
		case timedOut, known && !writing, !known && (unchanged || time.Since(lastChange) > stableContentWindow):
			if unchanged {
				return nil, nil
			}
			return append([]byte{}, current...), nil // not nil, even if empty
		}
		if err := backoff.Sleep(ctx, writerPollInterval); err != nil {
			return nil, err
		}
	}
}

// concurrentContent is the content that another program wrote into the hosts file while
// it was replaced. The zero value has no lines.
type concurrentContent struct {
	content []byte   // of the replaced file
	written []byte   // of the file that replaced it
	lines   [][]byte // that content has and written lacks
}

func newConcurrentContent(content, written []byte, owner string) concurrentContent {
	return concurrentContent{content, written, linesNotIn(splitBlock(content, owner).rest(), splitBlock(written, owner).rest())}
}

// merge returns the content of the hosts file, which was modified again since it was
// written, with the lines that it lacks. Lines that were only added to it come last,
// because the replaced file was changed first.
func (c concurrentContent) merge(current []byte, owner string) []byte {
	if len(c.lines) == 0 {
		return current
	}
	before, after := splitBlock(c.written, owner).rest(), splitBlock(current, owner).rest()
	if len(linesNotIn(before, after)) > 0 {
		return appendMissing(current, c.lines)
	}
	return appendMissing(c.content, linesNotIn(after, before))
}

// readAll reads an open file from its beginning.
func readAll(file *os.File) ([]byte, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	var content bytes.Buffer
	content.Grow(int(info.Size()) + bytes.MinRead) // at once, because a blocklist is large
	_, err = content.ReadFrom(io.NewSectionReader(file, 0, 1<<62))
	return content.Bytes(), err
}

// keepReplaced renames the file at temp, which has a concurrent write of another
// program, to a name that no kubeshore process removes. The caller holds the write lock
// of the hosts file.
func keepReplaced(path, temp string) (kept string, err error) {
	kept = unusedConcurrentPath(path)
	return kept, os.Rename(temp, kept)
}

// unusedConcurrentPath returns an unused path for a file that has a concurrent write.
func unusedConcurrentPath(path string) string {
	for n := 1; ; n++ {
		if name := sidecarPath(path, "late-"+strconv.Itoa(n)); !exists(name) {
			return name
		}
	}
}

// removeTemp removes the temporary file next to a hosts file. If a process was killed
// right after it replaced the hosts file, the temporary file may have a concurrent write
// of another program in it. It is kept in that case, for the user to look at.
func removeTemp(path string) (removed bool, err error) {
	temp := sidecarPath(path, "new")
	leftover, err := os.ReadFile(temp)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	current, readErr := os.ReadFile(path)
	if err == nil && (readErr == nil || errors.Is(readErr, fs.ErrNotExist)) && hasForeignLines(leftover, current) {
		_, err := keepReplaced(path, temp)
		return false, err
	}
	return true, os.Remove(temp)
}

// hasForeignLines reports whether content has a line that other lacks, and that
// kubeshore didn't write. It ignores a last line without a line ending, which may be
// incomplete.
func hasForeignLines(content, other []byte) bool {
	complete := content[:bytes.LastIndexByte(content, '\n')+1]
	return slices.ContainsFunc(linesNotIn(complete, other), func(line []byte) bool {
		return ownerOf(string(line)) == "" && !isOriginLine(string(line))
	})
}

// appendLines appends those of the lines that a file lacks to it.
func appendLines(path string, lines [][]byte) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	current, err := readAll(file)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	_, err = file.Write(appendMissing(current, lines)[len(current):])
	return errors.Join(err, file.Close())
}

// linesNotIn returns the lines of content that other lacks, without their line endings. A
// repeated line is missing as often as content has it more than other.
func linesNotIn(content, other []byte) [][]byte {
	count := make(map[string]int)
	for line := range bytes.Lines(other) {
		count[trimEOL(line)]++
	}
	var found [][]byte
	for line := range bytes.Lines(content) {
		line = bytes.TrimRight(line, "\r\n")
		if count[string(line)]--; count[string(line)] < 0 {
			found = append(found, line)
		}
	}
	return found
}

// appendMissing returns content, followed by those of the lines that it lacks.
func appendMissing(content []byte, lines [][]byte) []byte {
	if len(lines) == 0 {
		return content
	}
	eol := []byte(lineEnding(content))
	missing := linesNotIn(bytes.Join(lines, []byte("\n")), content)
	next := slices.Clone(content)
	if len(missing) > 0 && len(next) > 0 && next[len(next)-1] != '\n' {
		next = append(next, eol...)
	}
	for _, line := range missing {
		next = slices.Concat(next, line, eol)
	}
	return next
}
