package hosts

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/kubeshore/kubeshore/internal/backoff"
)

const (
	// lateTime is how long a program is waited for that has the file open for
	// writing after it was replaced.
	lateTime = time.Second
	// aloneTime is how long those are waited for that have it open before that.
	aloneTime = 200 * time.Millisecond
	// latePause is between two looks at it.
	latePause = 5 * time.Millisecond
	// still is how long such a file must stay the same where it isn't known who has
	// it open.
	still = 50 * time.Millisecond
)

// lookBack returns what other programs have made of a file since it was replaced; nil
// if nothing. They had opened it before. One that has emptied it, to write it anew, is
// waited for: half of what it writes is not what it wants.
func lookBack(old *os.File, there []byte) (late []byte, err error) {
	last, since := there, time.Now()
	for begin := since; ; {
		writing, known := hasWriter(old) // asked first: nobody opens it any more
		now, err := wholeOf(old)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(now, last) {
			last, since = now, time.Now()
		}
		over := time.Since(begin) > lateTime
		switch {
		case over && writing && bytes.HasPrefix(there, now):
			return nil, nil // it has nothing new yet
		case over, known && !writing, !known && (bytes.Equal(now, there) || time.Since(since) > still):
			if bytes.Equal(now, there) {
				return nil, nil
			}
			return append([]byte{}, now...), nil // not nil if it is empty
		}
		// Not with the caller's context: else what they have written would be lost.
		if err := backoff.Sleep(context.Background(), latePause); err != nil {
			return nil, err
		}
	}
}

// keep gives a file at temp, which has what another program wrote, a name under which no
// run removes it. The lock for a write must be held.
func keep(path, temp string) (kept string, err error) {
	kept = freeLate(path)
	return kept, os.Rename(temp, kept)
}

// freeLate returns a name for a file to keep that none has.
func freeLate(path string) string {
	for n := 1; ; n++ {
		if name := hidden(path, "late-"+strconv.Itoa(n)); !exists(name) {
			return name
		}
	}
}

// removeTemp removes the temporary file beside a hosts file. A run that was killed may
// have left in it what another program had written into the file that was replaced: then
// it is kept, for people to look at.
func removeTemp(path string) (removed bool, err error) {
	temp := hidden(path, "new")
	left, err := os.ReadFile(temp)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	there, unread := os.ReadFile(path)
	if err == nil && unread == nil && hasMore(left, there) {
		_, err := keep(path, temp)
		return false, err
	}
	return true, os.Remove(temp)
}

// hasMore tells whether a file has a line that is nobody's of us, and that another one
// lacks. A last line that isn't ended may be half of one.
func hasMore(content, other []byte) bool {
	whole := content[:bytes.LastIndexByte(content, '\n')+1]
	return slices.ContainsFunc(added(whole, other), func(line []byte) bool {
		return ownerOf(string(line)) == "" && !bytes.HasPrefix(line, []byte(noEnd))
	})
}

// appendLines appends lines to a file, each on a line of its own.
func appendLines(path string, lines [][]byte) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	content, err := wholeOf(file)
	if err == nil {
		_, err = file.Write(putBack(content, lines)[len(content):])
	}
	return errors.Join(err, file.Close())
}

// added returns the lines of a file that another one lacks, without their ends.
func added(content, other []byte) [][]byte {
	has := make(map[string]int)
	for line := range bytes.Lines(other) {
		has[string(bytes.TrimRight(line, "\r\n"))]++
	}
	var found [][]byte
	for line := range bytes.Lines(content) {
		line = bytes.TrimRight(line, "\r\n")
		if has[string(line)]--; has[string(line)] < 0 {
			found = append(found, line)
		}
	}
	return found
}

// putBack appends those lines that the content lacks.
func putBack(content []byte, lines [][]byte) []byte {
	if len(lines) == 0 {
		return content
	}
	eol := []byte(eolOf(content))
	missing := added(bytes.Join(lines, []byte("\n")), content)
	next := slices.Clone(content)
	if len(missing) > 0 && len(next) > 0 && next[len(next)-1] != '\n' {
		next = append(next, eol...)
	}
	for _, line := range missing {
		next = slices.Concat(next, line, eol)
	}
	return next
}
