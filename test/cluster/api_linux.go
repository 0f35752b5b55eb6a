package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

// apiServer is an API server of the cluster.
type apiServer struct {
	port       string
	pki        string // the folder of its certificates, and of its administrator's
	etcdPrefix string // of all that it stores
}

// theAPIServer is the one that the node and the controllers belong to.
func theAPIServer() apiServer {
	return apiServer{port: "16443", pki: pkiDir, etcdPrefix: "/registry"}
}

func (a apiServer) url() string { return "https://127.0.0.1:" + a.port }

// args are those of kube-apiserver.
func (a apiServer) args() []string {
	return []string{
		"--etcd-servers=" + etcdURL, "--etcd-prefix=" + a.etcdPrefix,
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port=" + a.port,
		"--endpoint-reconciler-type=none", // its own address is loopback, which no endpoint may have
		"--service-cluster-ip-range=10.96.0.0/16",
		"--tls-cert-file=" + a.pki + "/apiserver.crt", "--tls-private-key-file=" + a.pki + "/apiserver.key",
		"--client-ca-file=" + a.pki + "/ca.crt",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + a.pki + "/sa.pub", "--service-account-signing-key-file=" + a.pki + "/sa.key",
		"--kubelet-client-certificate=" + pkiDir + "/kubelet-client.crt", "--kubelet-client-key=" + pkiDir + "/kubelet-client.key",
		"--kubelet-certificate-authority=" + pkiDir + "/ca.crt",
		"--kubelet-preferred-address-types=Hostname",
		"--authorization-mode=Node,RBAC",
	}
}

// nodeReady asks the API server whether the node is ready; nil means that it is.
func (a apiServer) nodeReady(ctx context.Context) error {
	var node struct {
		Status struct {
			Conditions []struct{ Type, Status string }
		}
	}
	if err := a.get(ctx, "/api/v1/nodes/"+nodeName, &node); err != nil {
		return err
	}
	for _, c := range node.Status.Conditions {
		if c.Type == "Ready" && c.Status == "True" {
			return nil
		}
	}
	return errors.New("the node is not ready")
}

// ready asks the API server whether it is ready; nil means that it is.
func (a apiServer) ready(ctx context.Context) error { return a.get(ctx, "/readyz", nil) }

// get reads a path of the API server as its administrator, into answer if
// that is not nil.
func (a apiServer) get(ctx context.Context, path string, answer any) error {
	ca, err := os.ReadFile(a.pki + "/ca.crt")
	if err != nil {
		return err
	}
	cert, err := tls.LoadX509KeyPair(a.pki+"/admin.crt", a.pki+"/admin.key")
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	client := &http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13},
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url()+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}
