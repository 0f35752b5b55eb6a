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
	pidFile            = stateDir + "/supervisor.pid"
	clusterStopTimeout = 20 * time.Second
)

// down stops the cluster and removes its bridge, cgroups and files. It also
// cleans up after a killed cluster, and does nothing if there is none.
func down(out io.Writer) error {
	if err := check(); err != nil {
		return err
	}
	if err := stopSupervisor(); err != nil {
		return err
	}
	if _, err := os.Stat("/sys/class/net/" + bridge); err == nil {
		if err := runCommand(context.Background(), "ip", "link", "del", bridge); err != nil {
			return err
		}
	}
	if err := removeCgroups(); err != nil {
		return err
	}
	if err := os.RemoveAll(stateDir); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, "cluster: removed")
	return err
}

func stopSupervisor() error {
	pid, alive := supervisorPID()
	if !alive {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop supervisor: %w", err)
	}
	killAt, giveUp := time.Now().Add(clusterStopTimeout/2), time.Now().Add(clusterStopTimeout)
	for now := time.Now(); now.Before(giveUp); now = time.Now() {
		if _, alive := supervisorPID(); !alive {
			return nil
		}
		if now.After(killAt) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have exited meanwhile
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("stop supervisor: process %d did not exit within %v", pid, clusterStopTimeout)
}

// removeCgroups removes the cluster's cgroups, the innermost first. A cgroup
// stays busy for a moment after its last process has exited.
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
		deadline := time.Now().Add(clusterStopTimeout)
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

// writeSupervisorPID records the supervisor's process ID and start time, so
// that a later process with the same ID isn't mistaken for it.
func writeSupervisorPID(pid int) error {
	started, err := startTime(pid)
	if err != nil {
		return err
	}
	return os.WriteFile(pidFile, fmt.Appendf(nil, "%d %s", pid, started), 0o600)
}

// supervisorPID returns the supervisor's process ID and whether it is running.
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

// startTime returns the start time of a process in ticks since boot.
func startTime(pid int) (string, error) {
	fields, err := stat(pid)
	if err != nil {
		return "", err
	}
	return fields[22], nil
}

// stat returns the fields of /proc/PID/stat by their number in proc(5), from
// the third on. It returns an error for a zombie.
func stat(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the program's name may contain spaces
	fields := append(make([]string, 3), strings.Fields(rest)...)
	if len(fields) < 23 || fields[3] == "Z" || fields[3] == "X" {
		return nil, fmt.Errorf("process %d: not running", pid)
	}
	return fields, nil
}
