package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	secondDir        = stateDir + "/second"
	secondKubeconfig = secondDir + "/kubeconfig"
	secondLog        = stateDir + "/log/second.log"
	secondName       = "kubeshore-second" // of its context and cluster
)

// secondAPIServer is the API server of a cluster that looks like a separate
// one to clients: it has its own certificate authority, credentials and
// objects, but no node and no controllers. It can reach the kubelet of the
// main cluster, which looks up pods by name and namespace. So a Pod object
// with the name of a pod in the main cluster leads to that pod.
func secondAPIServer() apiServer {
	return apiServer{port: "16444", pki: secondDir + "/pki", etcdPrefix: "/second"}
}

// runSecond runs the second API server, initially empty, until stdin is closed
// or ctx ends. stdin is also closed when the process at its other end is
// killed. Once the server is ready, runSecond writes the path of its
// kubeconfig to out.
func runSecond(ctx context.Context, stdin io.Reader, out io.Writer) error {
	if err := check(); err != nil {
		return err
	}
	if _, alive := supervisorPID(); !alive {
		return errors.New("cluster is not running")
	}
	a := secondAPIServer()
	if err := prepareSecond(ctx, a); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // runs until the process exits, because a read of stdin can't be canceled
		_, _ = io.Copy(io.Discard, stdin)
		cancel()
	}()
	err := serveSecond(ctx, a, out)
	if ctx.Err() != nil { // stopped as requested
		return nil
	}
	return fmt.Errorf("second API server: %w (log: %s)", err, secondLog)
}

// serveSecond runs the API server until it exits or ctx ends.
func serveSecond(ctx context.Context, a apiServer, out io.Writer) error {
	log, err := os.Create(secondLog)
	if err != nil {
		return err
	}
	defer log.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd := exec.CommandContext(ctx, stateDir+"/bin/kube-apiserver",
		append(a.args(), "--disable-admission-plugins=ServiceAccount")...) // no controller creates the namespaces' default accounts
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig refers to the starting thread, which must not exit
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait() // cmd.ProcessState has the result
		cancel(fmt.Errorf("kube-apiserver exited: %s", cmd.ProcessState))
	}()
	if err := a.await(ctx); err != nil {
		cancel(err)
	} else if _, err := fmt.Fprintln(out, secondKubeconfig); err != nil {
		cancel(err)
	}
	<-exited
	return context.Cause(ctx)
}

// await returns when the API server is ready.
func (a apiServer) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, clusterStartTimeout)
	defer cancel()
	for {
		err := a.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w: %w", context.Cause(ctx), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// prepareSecond removes the data of an earlier run, and writes the
// certificates and the kubeconfig.
func prepareSecond(ctx context.Context, a apiServer) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:"+a.port)
	if err != nil {
		return fmt.Errorf("second API server is already running: %w", err)
	}
	if err := l.Close(); err != nil {
		return err
	}
	if err := deleteFromEtcd(ctx, a.etcdPrefix+"/"); err != nil {
		return err
	}
	if err := os.RemoveAll(secondDir); err != nil {
		return err
	}
	if err := os.MkdirAll(a.pki, 0o700); err != nil {
		return err
	}
	ca, err := newAuthority(a.pki)
	if err != nil {
		return err
	}
	if err := ca.signingKey("sa"); err != nil {
		return err
	}
	if err := ca.issue("apiserver", "kube-apiserver", "kubeshore", "127.0.0.1"); err != nil {
		return err
	}
	if err := ca.issue("admin", "admin", "system:masters"); err != nil {
		return err
	}
	return ca.kubeconfig(secondKubeconfig, secondName, "admin", a.url())
}

// deleteFromEtcd deletes all keys with the prefix.
func deleteFromEtcd(ctx context.Context, prefix string) error {
	end := prefix[:len(prefix)-1] + string(prefix[len(prefix)-1]+1)
	body, err := json.Marshal(map[string]string{
		"key":       base64.StdEncoding.EncodeToString([]byte(prefix)),
		"range_end": base64.StdEncoding.EncodeToString([]byte(end)),
	})
	if err != nil {
		return err
	}
	// etcd also serves its API as JSON: https://etcd.io/docs/v3.6/dev-guide/api_grpc_gateway/
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, etcdURL+"/v3/kv/deleterange", strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("etcd: delete %s: %s", prefix, resp.Status)
	}
	return nil
}
