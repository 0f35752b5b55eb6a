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
	pki        string // directory of its certificates and those of its administrator
	etcdPrefix string // of everything that it stores
}

// mainAPIServer is the API server of the node and the controllers.
func mainAPIServer() apiServer {
	return apiServer{port: "16443", pki: pkiDir, etcdPrefix: "/registry"}
}

func (a apiServer) url() string { return "https://127.0.0.1:" + a.port }

// args returns the flags of kube-apiserver.
func (a apiServer) args() []string {
	return []string{
		"--etcd-servers=" + etcdURL, "--etcd-prefix=" + a.etcdPrefix,
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port=" + a.port,
		"--endpoint-reconciler-type=none", // its address is a loopback address, which is invalid in an endpoint
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

// nodeReady returns nil if the node is ready.
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
	return errors.New("node is not ready")
}

// ready returns nil if the API server is ready.
func (a apiServer) ready(ctx context.Context) error { return a.get(ctx, "/readyz", nil) }

// get reads a path of the API server as its administrator, and decodes the
// response into response unless that is nil.
func (a apiServer) get(ctx context.Context, path string, response any) error {
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
	if response == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(response)
}
