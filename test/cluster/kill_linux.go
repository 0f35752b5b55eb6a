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

// kill ends one program of the cluster without a warning, and returns when it
// is gone. The supervisor then starts it again. No process but the
// supervisor's own children is ever touched.
func kill(name string) error {
	if err := check(); err != nil {
		return err
	}
	supervisor, alive := supervisorPID()
	if !alive {
		return errors.New("the cluster doesn't run")
	}
	pid, err := child(supervisor, name)
	if err != nil {
		return err
	}
	process, err := os.FindProcess(pid) // by pidfd: it stays this process, whoever gets its number
	if err != nil {
		return err
	}
	defer func() { _ = process.Release() }()
	if again, err := child(supervisor, name); err != nil || again != pid {
		return fmt.Errorf("%s is being started again", name)
	}
	started, err := startTime(pid)
	if err != nil {
		return err
	}
	if err := process.Kill(); err != nil {
		return fmt.Errorf("kill %s: %w", name, err)
	}
	for deadline := time.Now().Add(stopTimeout); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if now, err := startTime(pid); err != nil || now != started {
			return nil
		}
	}
	return fmt.Errorf("%s, process %d, did not end within %v", name, pid, stopTimeout)
}

// child finds the process with the parent and the program name given.
func child(parent int, name string) (int, error) {
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	for _, path := range commands {
		text, err := os.ReadFile(path)
		program, _, _ := bytes.Cut(text, []byte{0})
		if err != nil || filepath.Base(string(program)) != name {
			continue // of those that have just ended nothing can be read
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return 0, err
		}
		if fields, err := stat(pid); err == nil && fields[4] == strconv.Itoa(parent) {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("%s doesn't run", name)
}
