package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// supervise is process 1 of the cluster's namespaces. It starts the programs,
// restarts them when they exit, and reaps orphaned processes until ctx ends.
// Then the kernel kills the remaining processes.
func supervise(ctx context.Context) error {
	if os.Getpid() != 1 {
		return errors.New("supervise is an internal command, started by `cluster up`")
	}
	if err := isolateMounts(); err != nil {
		return err
	}
	if err := makeCgroups(); err != nil {
		return err
	}
	orphans := make(chan os.Signal, 1)
	signal.Notify(orphans, syscall.SIGCHLD)
	s := &supervisor{running: make(map[int]component)}
	for _, c := range controlPlane() {
		if err := s.start(c); err != nil {
			return err
		}
	}
	pending, ready := agents(), time.NewTicker(100*time.Millisecond)
	defer ready.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-orphans:
			s.reap()
		case <-ready.C:
			if err := s.restart(); err != nil {
				return err
			}
			if len(pending) == 0 || containerdReady(ctx) != nil || mainAPIServer().ready(ctx) != nil {
				continue
			}
			for _, c := range pending {
				if err := s.start(c); err != nil {
					return err
				}
			}
			pending = nil
		}
	}
}

// isolateMounts makes the mounts of this namespace private, mounts a /proc of
// its PID namespace, and hides the directories in which containerd, CNI and
// the kubelet use fixed paths.
func isolateMounts() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make / private: %w", err)
	}
	// Shared again within the cluster, for containers that use mount propagation.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, ""); err != nil {
		return fmt.Errorf("make / shared: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, dir := range []string{"/run", "/var/lib", "/var/log", "/opt"} {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("hide %s: %w", dir, err)
		}
	}
	return nil
}

// cgroupDirs returns the cluster's cgroup in each hierarchy of cgroup v1, or
// the one of v2.
func cgroupDirs() ([]string, error) {
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/cgroup.controllers"); err == nil {
		return []string{filepath.Join(root, cgroupName)}, nil
	}
	hierarchies, err := filepath.Glob(root + "/*/cgroup.procs")
	if err != nil {
		return nil, err
	}
	dirs := make([]string, 0, len(hierarchies))
	for _, h := range hierarchies {
		dirs = append(dirs, filepath.Join(filepath.Dir(h), cgroupName))
	}
	return dirs, nil
}

func makeCgroups() error {
	dirs, err := cgroupDirs()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

func containerdReady(ctx context.Context) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", containerdSock)
	if err != nil {
		return err
	}
	return conn.Close()
}

// supervisor tracks the running programs. It is not safe for concurrent use.
type supervisor struct {
	running map[int]component // by process ID
	exited  []component       // to be restarted
}

// start runs a program with its own log file. reap waits for it, because
// process 1 must also reap orphans that it did not start.
func (s *supervisor) start(c component) error {
	logFile, err := os.OpenFile(filepath.Join(stateDir, "log", c.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close()
	path := filepath.Join(stateDir, "bin", c.name)
	if _, err := os.Stat(path); err != nil {
		if path, err = exec.LookPath(c.name); err != nil {
			return err
		}
	}
	process, err := os.StartProcess(path, append([]string{path}, c.args...), &os.ProcAttr{
		Files: []*os.File{nil, logFile, logFile},
		Env:   []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"},
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	s.running[process.Pid] = c
	return process.Release()
}

func (s *supervisor) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err != nil || pid <= 0 {
			return
		}
		if c, ours := s.running[pid]; ours {
			log.Printf("%s exited with status %d, signal %v; restarting", c.name, status.ExitStatus(), status.Signal())
			delete(s.running, pid)
			s.exited = append(s.exited, c)
		}
	}
}

func (s *supervisor) restart() error {
	for _, c := range s.exited {
		if err := s.start(c); err != nil {
			return err
		}
	}
	s.exited = nil
	return nil
}
