package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The cluster's files and addresses. Its ports differ from the default ones, so
// that it doesn't conflict with another cluster on this machine.
const (
	stateDir            = "/var/cache/kubeshore-cluster"
	adminKubeconfig     = stateDir + "/kubeconfig"
	contextName         = "kubeshore-test"
	containerdSock      = stateDir + "/containerd.sock"
	nodeName            = "localhost" // keeps all streaming on loopback
	bridge              = "kubeshore0"
	bridgeAddr          = "10.219.0.1/20"
	podSubnet           = "10.219.0.0/20"
	etcdURL             = "http://127.0.0.1:16479"
	etcdPeerURL         = "http://127.0.0.1:16480"
	clusterStartTimeout = 3 * time.Minute
)

var errNeedsRoot = errors.New("test cluster needs root to run containers; run as root, or use any other cluster: make e2e KUBECONFIG=FILE")

// check returns an error if this machine can't run the cluster.
func check() error {
	if os.Geteuid() != 0 {
		return errNeedsRoot
	}
	return nil
}

// up starts the cluster, or reuses the running one, and imports the images of
// bin. It returns when the node is ready.
func up(ctx context.Context, bin string, out io.Writer) error {
	if err := check(); err != nil {
		return err
	}
	program := filepath.Join(bin, "kubernetes")
	begin := time.Now()
	if isRunning(ctx, program) {
		if err := importImages(ctx, bin); err != nil {
			return err
		}
		_, err := fmt.Fprintf(out, "cluster: running; export KUBECONFIG=%s\n", adminKubeconfig)
		return err
	}
	if err := down(io.Discard); err != nil {
		return err
	}
	if err := installPackages(ctx, out); err != nil {
		return err
	}
	if err := prepare(program); err != nil {
		return errors.Join(err, down(io.Discard))
	}
	if err := start(ctx, bin); err != nil {
		if ctx.Err() != nil { // interrupted: leave nothing behind
			return errors.Join(err, down(io.Discard))
		}
		// Keep the logs.
		return fmt.Errorf("%w (logs: %s/log)", err, stateDir)
	}
	_, err := fmt.Fprintf(out, "cluster: ready after %.1fs; export KUBECONFIG=%s\n", time.Since(begin).Seconds(), adminKubeconfig)
	return err
}

// isRunning reports whether the cluster is running the given program and is
// ready.
func isRunning(ctx context.Context, program string) bool {
	if _, alive := supervisorPID(); !alive {
		return false
	}
	want, err1 := os.ReadFile(program)
	got, err2 := os.ReadFile(stateDir + "/bin/kubernetes")
	return err1 == nil && err2 == nil && bytes.Equal(want, got) && mainAPIServer().nodeReady(ctx) == nil
}

// prepare writes the certificates, kubeconfigs and configuration files, and
// creates the bridge, whose address is the node's.
func prepare(program string) error {
	for _, dir := range []string{"bin", "pki", "log", "cni", "images"} {
		if err := os.MkdirAll(filepath.Join(stateDir, dir), 0o700); err != nil {
			return err
		}
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return fmt.Errorf("read Kubernetes binary: %w (built by make cluster)", err)
	}
	if err := os.WriteFile(stateDir+"/bin/kubernetes", content, 0o700); err != nil {
		return err
	}
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"} {
		if err := os.Symlink("kubernetes", filepath.Join(stateDir, "bin", name)); err != nil {
			return err
		}
	}
	if err := writeCredentials(); err != nil {
		return err
	}
	for path, text := range settings() {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"link", "add", bridge, "type", "bridge"},
		{"addr", "add", bridgeAddr, "dev", bridge},
		{"link", "set", bridge, "up"},
	} {
		if err := runCommand(context.Background(), "ip", args...); err != nil {
			return err
		}
	}
	return nil
}

func writeCredentials() error {
	ca, err := newAuthority(pkiDir)
	if err != nil {
		return err
	}
	if err := ca.signingKey("sa"); err != nil {
		return err
	}
	for _, c := range []struct {
		name, user, group string
		hosts             []string
	}{
		{"apiserver", "kube-apiserver", "kubeshore", []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1", "10.96.0.1"}},
		{"kubelet-client", "kube-apiserver-kubelet-client", "system:masters", nil},
		{"admin", "admin", "system:masters", nil},
		{"controller-manager", "system:kube-controller-manager", "kubeshore", nil},
		{"scheduler", "system:kube-scheduler", "kubeshore", nil},
		{"node", "system:node:" + nodeName, "system:nodes", []string{nodeName, "127.0.0.1"}},
	} {
		if err := ca.issue(c.name, c.user, c.group, c.hosts...); err != nil {
			return err
		}
	}
	for path, cert := range map[string]string{
		adminKubeconfig: "admin",
		stateDir + "/controller-manager.kubeconfig": "controller-manager",
		stateDir + "/scheduler.kubeconfig":          "scheduler",
		stateDir + "/node.kubeconfig":               "node",
	} {
		if err := ca.kubeconfig(path, contextName, cert, mainAPIServer().url()); err != nil {
			return err
		}
	}
	return nil
}

// start runs the supervisor in new namespaces and waits for the node.
func start(ctx context.Context, bin string) error {
	log, err := os.Create(stateDir + "/log/supervisor.log")
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "/proc/self/exe", "supervise") // outlives this process
	cmd.Args[0] = "kubeshore-cluster"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	if err := writeSupervisorPID(cmd.Process.Pid); err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()

	ctx, cancel := context.WithTimeout(ctx, clusterStartTimeout)
	defer cancel()
	imported := false
	for {
		var waiting error
		if !imported {
			waiting = importImages(ctx, bin)
			imported = waiting == nil
		}
		if waiting == nil {
			if waiting = mainAPIServer().nodeReady(ctx); waiting == nil {
				return nil
			}
		}
		select {
		case err := <-exited:
			return fmt.Errorf("supervisor exited: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("not ready after %v: %w", clusterStartTimeout, waiting)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// importImages imports the images of bin that have changed since the last
// import into containerd.
func importImages(ctx context.Context, bin string) error {
	archives, err := filepath.Glob(filepath.Join(bin, "images", "*.tar"))
	if err != nil {
		return err
	}
	for _, path := range archives {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		digest := hex.EncodeToString(sum[:])
		mark := filepath.Join(stateDir, "images", filepath.Base(path))
		if have, err := os.ReadFile(mark); err == nil && string(have) == digest {
			continue
		}
		if err := runCommand(ctx, "ctr", "--address", containerdSock, "--namespace", "k8s.io", "image", "import", path); err != nil {
			return err
		}
		if err := os.WriteFile(mark, []byte(digest), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// installPackages installs missing programs from Debian.
func installPackages(ctx context.Context, out io.Writer) error {
	var missing []string
	for _, p := range []struct{ program, pkg string }{
		{"containerd", "containerd"}, {"ctr", "containerd"}, {"runc", "runc"}, {"ip", "iproute2"},
	} {
		if _, err := exec.LookPath(p.program); err != nil {
			missing = append(missing, p.pkg)
		}
	}
	if cniBin() == "" {
		missing = append(missing, "containernetworking-plugins")
	}
	if len(missing) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("missing packages: %s; install them, or use any other cluster: make e2e KUBECONFIG=FILE", strings.Join(missing, ", "))
	}
	fmt.Fprintf(out, "cluster: installing %s\n", strings.Join(missing, ", "))
	if err := runCommand(ctx, "apt-get", "update", "-q"); err != nil {
		return err
	}
	defer disableContainerdService(ctx)
	return runCommand(ctx, "env", append([]string{
		"DEBIAN_FRONTEND=noninteractive",
		"apt-get", "install", "-q", "-y", "--no-install-recommends",
	}, missing...)...)
}

// disableContainerdService stops the containerd that the package starts where
// systemd runs. The cluster runs its own.
func disableContainerdService(ctx context.Context) {
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		_ = runCommand(ctx, "systemctl", "disable", "--now", "containerd") // harmless if it keeps running
	}
}

// cniBin returns the directory of the CNI plugins from Debian or upstream.
func cniBin() string {
	for _, dir := range []string{"/usr/lib/cni", "/opt/cni/bin"} {
		if _, err := os.Stat(filepath.Join(dir, "bridge")); err == nil {
			return dir
		}
	}
	return ""
}

// runCommand runs a program. An error contains the command line and the
// output.
func runCommand(ctx context.Context, name string, args ...string) error {
	output, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(output)))
	}
	return nil
}
