package main

import "fmt"

const (
	pkiDir     = stateDir + "/pki"
	cgroupName = "kubeshore-cluster"
)

// component is one long-running program of the cluster.
type component struct {
	name string
	args []string
}

// controlPlane returns the programs that the agents depend on, and containerd.
func controlPlane() []component {
	return []component{
		{"etcd", []string{
			"--data-dir=" + stateDir + "/etcd",
			"--listen-client-urls=" + etcdURL, "--advertise-client-urls=" + etcdURL,
			"--listen-peer-urls=" + etcdPeerURL, "--initial-advertise-peer-urls=" + etcdPeerURL,
			"--initial-cluster=default=" + etcdPeerURL,
			"--unsafe-no-fsync", // the data needn't survive the cluster
		}},
		{"containerd", []string{"--config=" + stateDir + "/containerd.toml"}},
		{"kube-apiserver", mainAPIServer().args()},
	}
}

// agents returns the programs that need a ready API server.
func agents() []component {
	return []component{
		{"kube-controller-manager", []string{
			"--kubeconfig=" + stateDir + "/controller-manager.kubeconfig",
			"--service-account-private-key-file=" + pkiDir + "/sa.key", "--root-ca-file=" + pkiDir + "/ca.crt",
			"--use-service-account-credentials", "--allocate-node-cidrs=false", "--leader-elect=false",
			"--secure-port=0", "--kube-api-qps=500", "--kube-api-burst=1000",
		}},
		{"kube-scheduler", []string{
			"--kubeconfig=" + stateDir + "/scheduler.kubeconfig", "--leader-elect=false", "--secure-port=0",
		}},
		{"kubelet", []string{
			"--config=" + stateDir + "/kubelet.yaml", "--kubeconfig=" + stateDir + "/node.kubeconfig",
			"--root-dir=" + stateDir + "/kubelet", "--hostname-override=" + nodeName, "--node-ip=10.219.0.1",
		}},
	}
}

// settings returns the programs' configuration files by path.
func settings() map[string]string {
	return map[string]string{
		stateDir + "/containerd.toml": fmt.Sprintf(`version = 2
root = "%[1]s/containerd"
state = "%[1]s/containerd-run"
[grpc]
  address = "%[2]s"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "kubeshore.test/pause:1"
  restrict_oom_score_adj = true # the machine may lack CAP_SYS_RESOURCE
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "%[3]s"
    conf_dir = "%[1]s/cni"
`, stateDir, containerdSock, cniBin()),

		stateDir + "/cni/10-kubeshore.conflist": fmt.Sprintf(`{"cniVersion": "0.4.0", "name": "kubeshore", "plugins": [
  {"type": "bridge", "bridge": "%s", "isGateway": false, "ipMasq": false,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "%s", "gateway": "10.219.0.1"}]], "dataDir": "%s/ipam"}},
  {"type": "loopback"}]}
`, bridge, podSubnet, stateDir),

		stateDir + "/kubelet.yaml": fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
port: 16250
healthzPort: 0
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: %[1]s/ca.crt}
authorization: {mode: AlwaysAllow}
tlsCertFile: %[1]s/node.crt
tlsPrivateKeyFile: %[1]s/node.key
cgroupDriver: cgroupfs
cgroupRoot: /%[2]s
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
maxPods: 900
containerRuntimeEndpoint: unix://%[3]s
volumePluginDir: %[4]s/kubelet-plugins
clusterDNS: []
resolvConf: ""
enforceNodeAllocatable: []
registryPullQPS: 0
kubeAPIQPS: 200
kubeAPIBurst: 400
nodeStatusUpdateFrequency: 4s
evictionHard: {memory.available: 50Mi, nodefs.available: 1%%, imagefs.available: 1%%}
`, pkiDir, cgroupName, containerdSock, stateDir),
	}
}
