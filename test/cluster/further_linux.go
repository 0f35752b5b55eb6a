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
	furtherDir        = stateDir + "/further"
	furtherKubeconfig = furtherDir + "/kubeconfig"
	furtherLog        = stateDir + "/log/further.log"
	furtherName       = "kubeshore-further" // of its context and cluster
)

// furtherAPIServer is the API server of a second cluster, as far as a client
// can tell: it has an authority, credentials and objects of its own. It has no
// node and no controllers; but it knows the way to the kubelet, which looks
// for a pod by its name and namespace. So an object of the same name as a pod
// of the first leads to that pod.
func furtherAPIServer() apiServer {
	return apiServer{port: "16444", pki: furtherDir + "/pki", etcdPrefix: "/further"}
}

// further runs the further API server, with nothing in it, until stdin or ctx
// ends: whoever holds the other end of stdin may end in any way. It writes the
// path of the kubeconfig once the server is ready.
func further(ctx context.Context, stdin io.Reader, out io.Writer) error {
	if err := check(); err != nil {
		return err
	}
	if _, alive := supervisorPID(); !alive {
		return errors.New("the cluster doesn't run")
	}
	a := furtherAPIServer()
	if err := prepareFurther(ctx, a); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // to the end of the process: nothing ends a read of stdin
		_, _ = io.Copy(io.Discard, stdin)
		cancel()
	}()
	err := runFurther(ctx, a, out)
	if ctx.Err() != nil { // as it was told to
		return nil
	}
	return fmt.Errorf("the further API server: %w (log: %s)", err, furtherLog)
}

// runFurther runs the API server until it or ctx ends.
func runFurther(ctx context.Context, a apiServer, out io.Writer) error {
	log, err := os.Create(furtherLog)
	if err != nil {
		return err
	}
	defer log.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd := exec.CommandContext(ctx, stateDir+"/bin/kube-apiserver",
		append(a.args(), "--disable-admission-plugins=ServiceAccount")...) // no controller makes a namespace's account
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig is about the thread that starts it, and this one lasts
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // its state says it too
		cancel(fmt.Errorf("it ended: %s", cmd.ProcessState))
	}()
	if err := a.await(ctx); err != nil {
		cancel(err)
	} else if _, err := fmt.Fprintln(out, furtherKubeconfig); err != nil {
		cancel(err)
	}
	<-ended
	return context.Cause(ctx)
}

// await returns once the API server is ready.
func (a apiServer) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
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

// prepareFurther takes away what another run left, and writes certificates and
// the kubeconfig.
func prepareFurther(ctx context.Context, a apiServer) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:"+a.port)
	if err != nil {
		return fmt.Errorf("the further API server runs already: %w", err)
	}
	if err := l.Close(); err != nil {
		return err
	}
	if err := deleteFromEtcd(ctx, a.etcdPrefix+"/"); err != nil {
		return err
	}
	if err := os.RemoveAll(furtherDir); err != nil {
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
	return ca.kubeconfig(furtherKubeconfig, furtherName, "admin", a.url())
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
	// etcd serves its API as JSON too: https://etcd.io/docs/v3.6/dev-guide/api_grpc_gateway/
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
