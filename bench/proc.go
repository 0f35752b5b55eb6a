package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of CPU time in /proc (proc_pid_stat(5)). USER_HZ is
// 100 on every Linux that Go supports.
const clockTick = 10 * time.Millisecond

var errFormat = errors.New("unknown format")

// cpuTime returns the CPU time that a process has used so far, in user and
// kernel mode.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("bench: read CPU time: %w", err)
	}
	d, err := parseStat(string(text))
	if err != nil {
		return 0, fmt.Errorf("bench: read CPU time: %w", err)
	}
	return d, nil
}

// parseStat returns the sum of utime and stime, fields 14 and 15 of a stat
// file. Field 2 is the program's name in parentheses, which may contain any
// character.
func parseStat(text string) (time.Duration, error) {
	fields := strings.Fields(text[strings.LastIndex(text, ")")+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("%w: %q", errFormat, text)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * clockTick, errors.Join(err1, err2)
}

// residentMemory returns the resident memory of a process in bytes.
func residentMemory(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("bench: read memory: %w", err)
	}
	value := procField(string(text), "VmRSS")
	kib, err := strconv.ParseInt(strings.TrimSuffix(value, " kB"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("bench: read memory: %w", err)
	}
	return kib << 10, nil
}

// procField returns the value of the first line "key: value", or "".
func procField(content, key string) string {
	for text := range strings.Lines(content) {
		if k, v, ok := strings.Cut(text, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
