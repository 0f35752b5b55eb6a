package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	pidFile     = stateDir + "/supervisor.pid"
	stopTimeout = 20 * time.Second
)

// down ends the cluster and removes its bridge, cgroups and files. It puts
// right what a killed run left behind, and may be called when nothing runs.
func down(out io.Writer) error {
	if err := check(); err != nil {
		return err
	}
	if err := stopSupervisor(); err != nil {
		return err
	}
	if _, err := os.Stat("/sys/class/net/" + bridge); err == nil {
		if err := command(context.Background(), "ip", "link", "del", bridge); err != nil {
			return err
		}
	}
	if err := removeCgroups(); err != nil {
		return err
	}
	if err := os.RemoveAll(stateDir); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, "cluster: nothing of it is left")
	return err
}

func stopSupervisor() error {
	pid, alive := supervisorPID()
	if !alive {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the supervisor: %w", err)
	}
	killAt, giveUp := time.Now().Add(stopTimeout/2), time.Now().Add(stopTimeout)
	for now := time.Now(); now.Before(giveUp); now = time.Now() {
		if _, alive := supervisorPID(); !alive {
			return nil
		}
		if now.After(killAt) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may just have gone
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("process %d did not end within %v", pid, stopTimeout)
}

// removeCgroups removes our cgroups, the innermost first. A cgroup is busy for
// a moment after its last process ended.
func removeCgroups() error {
	roots, err := cgroupDirs()
	if err != nil {
		return err
	}
	for _, root := range roots {
		var dirs []string
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		if err != nil {
			return err
		}
		deadline := time.Now().Add(stopTimeout)
		for i := len(dirs) - 1; i >= 0; {
			switch err := syscall.Rmdir(dirs[i]); {
			case err == nil || errors.Is(err, fs.ErrNotExist):
				i--
			case time.Now().After(deadline):
				return fmt.Errorf("remove cgroup %s: %w", dirs[i], err)
			default:
				time.Sleep(10 * time.Millisecond)
			}
		}
	}
	return nil
}

// writeSupervisorPID notes the supervisor's process with its start time, so
// that a later process of the same number is never taken for it.
func writeSupervisorPID(pid int) error {
	started, err := startTime(pid)
	if err != nil {
		return err
	}
	return os.WriteFile(pidFile, fmt.Appendf(nil, "%d %s", pid, started), 0o600)
}

// supervisorPID returns the supervisor's process and whether it is alive.
func supervisorPID() (pid int, alive bool) {
	content, err := os.ReadFile(pidFile)
	if err != nil {
		return 0, false
	}
	number, want, ok := strings.Cut(string(content), " ")
	if pid, err = strconv.Atoi(number); !ok || err != nil {
		return 0, false
	}
	started, err := startTime(pid)
	return pid, err == nil && started == want
}

// startTime is when the process started, in ticks since boot.
func startTime(pid int) (string, error) {
	fields, err := stat(pid)
	if err != nil {
		return "", err
	}
	return fields[22], nil
}

// stat reads /proc/PID/stat (proc(5)) and returns its fields by the number
// that the manual gives them, from the third on. A zombie counts as gone.
func stat(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the program's name may hold spaces
	fields := append(make([]string, 3), strings.Fields(rest)...)
	if len(fields) < 23 || fields[3] == "Z" || fields[3] == "X" {
		return nil, fmt.Errorf("process %d: not running", pid)
	}
	return fields, nil
}
