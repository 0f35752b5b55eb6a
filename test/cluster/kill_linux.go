package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// kill kills one program of the cluster and returns when it is gone. The
// supervisor then restarts it. Only child processes of the supervisor are ever
// killed.
func kill(name string) error {
	if err := check(); err != nil {
		return err
	}
	supervisor, alive := supervisorPID()
	if !alive {
		return errors.New("cluster is not running")
	}
	pid, err := findChild(supervisor, name)
	if err != nil {
		return err
	}
	process, err := os.FindProcess(pid) // a pidfd, which a later process with the same ID can't take over
	if err != nil {
		return err
	}
	defer func() { _ = process.Release() }()
	if again, err := findChild(supervisor, name); err != nil || again != pid {
		return fmt.Errorf("%s is restarting", name)
	}
	started, err := startTime(pid)
	if err != nil {
		return err
	}
	if err := process.Kill(); err != nil {
		return fmt.Errorf("kill %s: %w", name, err)
	}
	for deadline := time.Now().Add(clusterStopTimeout); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if now, err := startTime(pid); err != nil || now != started {
			return nil
		}
	}
	return fmt.Errorf("kill %s: process %d did not exit within %v", name, pid, clusterStopTimeout)
}

// findChild returns the ID of the process with the given parent and program
// name.
func findChild(parent int, name string) (int, error) {
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	for _, path := range commands {
		text, err := os.ReadFile(path)
		program, _, _ := bytes.Cut(text, []byte{0})
		if err != nil || filepath.Base(string(program)) != name {
			continue // the process may have exited meanwhile
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return 0, err
		}
		if fields, err := stat(pid); err == nil && fields[4] == strconv.Itoa(parent) {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("%s is not running", name)
}
