package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of CPU time in /proc (proc_pid_stat(5)): USER_HZ is 100 on
// every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

var errFormat = errors.New("unknown format")

// cpuTime returns the CPU time that a process has used so far, in user mode
// and in the kernel.
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

// parseStat reads utime and stime, the 14th and 15th field of a stat file. The
// second is the program's name in brackets, which may have anything in it.
func parseStat(text string) (time.Duration, error) {
	fields := strings.Fields(text[strings.LastIndex(text, ")")+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("%w: %q", errFormat, text)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * clockTick, errors.Join(err1, err2)
}

// residentMemory returns the bytes of a process that are in memory.
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
func procField(text, key string) string {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
