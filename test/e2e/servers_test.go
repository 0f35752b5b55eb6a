//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	postgresPort = 5432
	exporterPort = 9187 // where PostgreSQL's exporter usually listens
	redisPort    = 6379
	registryPort = 5000
)

// startPostgres is the command of a pod with PostgreSQL, which accepts
// connections with TLS only. The other commands are for Redis and the registry.
const startPostgres = `
cd /usr/lib/postgresql/*/bin
./initdb --pgdata=/data/db --username=test --auth=trust --no-locale --encoding=UTF8 --no-sync
echo 'hostssl postgres test all trust' >/data/db/pg_hba.conf
exec ./postgres -D /data/db -c listen_addresses='*' -c unix_socket_directories= -c fsync=off \
  -c ssl=on -c ssl_cert_file=/tls/tls.crt -c ssl_key_file=/tls/tls.key`

const startRedis = `exec redis-server --protected-mode no --save '' --dir /data`

const startRegistry = `
echo '{version: "0.1", http: {addr: ":5000"}, storage: {filesystem: {rootdirectory: /data}}}' >/data/config.yml
exec docker-registry serve /data/config.yml`

// servers are Debian's servers in pods, each with a Service of the same name:
// db and quiet are PostgreSQL, db with go-ok as its exporter on a second port;
// cache is Redis; registry is a container registry.
type servers struct {
	namespace string
	ca        string // a file with the certificate of PostgreSQL
}

// newServers starts servers in a new namespace and waits until they are ready.
func newServers(t *testing.T) servers {
	t.Helper()
	s := servers{namespace: newNamespace(t), ca: filepath.Join(t.TempDir(), "ca.crt")}
	cert, key := newCertificate(t, s.host("db"), s.host("quiet"))
	keyFile := filepath.Join(t.TempDir(), "tls.key")
	for file, content := range map[string][]byte{s.ca: cert, keyFile: key} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	kubectl(t, "", "-n", s.namespace, "create", "secret", "tls", "tls", "--cert="+s.ca, "--key="+keyFile)
	exporter := fmt.Sprintf(`{name: exporter, image: "kubeshore.test/go-ok:1", imagePullPolicy: IfNotPresent,
    env: [{name: PORT, value: "%[1]d"}], ports: [{name: metrics, containerPort: %[1]d}]}`, exporterPort)
	apply(t,
		serverPod(s.namespace, "db", postgresPort, startPostgres, exporter),
		serverPod(s.namespace, "quiet", postgresPort, startPostgres),
		serverPod(s.namespace, "cache", redisPort, startRedis),
		serverPod(s.namespace, "registry", registryPort, startRegistry),
		fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: db, namespace: %s}
spec: {selector: {app: db}, ports: [{name: postgres, port: %d}, {name: metrics, port: %d}]}`, s.namespace, postgresPort, exporterPort),
		service(s.namespace, "quiet", postgresPort, ""),
		service(s.namespace, "cache", redisPort, ""),
		service(s.namespace, "registry", registryPort, ""),
	)
	for _, app := range []string{"db", "quiet", "cache", "registry"} {
		waitForReadyPods(t, s.namespace, app, 1)
	}
	return s
}

// host returns the host name of a server.
func (s servers) host(name string) string { return name + "." + s.namespace }

// serverPod returns a pod that runs a command of the servers' image, which
// listens on port under the name http, as a user who may write to /data only.
// containers are additional ones.
func serverPod(namespace, name string, port int, command string, containers ...string) string {
	server := fmt.Sprintf(`{name: server, image: "kubeshore.test/servers:1", imagePullPolicy: IfNotPresent,
    command: [/bin/sh, -euc, %q], env: [{name: PATH, value: "/usr/bin:/bin"}],
    ports: [{name: http, containerPort: %d}], readinessProbe: {tcpSocket: {port: http}, periodSeconds: 1},
    volumeMounts: [{name: data, mountPath: /data}, {name: tls, mountPath: /tls}]}`, command, port)
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %[2]s, namespace: %[1]s, labels: {app: %[2]s}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  securityContext: {runAsUser: 65534, runAsGroup: 65534, fsGroup: 65534}
  volumes: [{name: data, emptyDir: {}}, {name: tls, secret: {secretName: tls, defaultMode: 0440}}]
  containers: [%[3]s]`, namespace, name, strings.Join(append([]string{server}, containers...), ", "))
}

// newCertificate returns a certificate for hosts, which is its own authority,
// and its key.
func newCertificate(t *testing.T, hosts ...string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: hosts, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}
