package kube

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/homedir"
	"sigs.k8s.io/yaml"
)

// kuberc has the fields of kubectl's preferences (KEP-3104) that apply to other
// programs too. An entry of the list was called name in Kubernetes 1.35.
type kuberc struct {
	Kind      string                  `json:"kind"`
	Policy    clientcmdapi.PolicyType `json:"credentialPluginPolicy"`
	Allowlist []struct {
		Command string `json:"command"`
		Name    string `json:"name"`
	} `json:"credentialPluginAllowlist"`
}

// pluginPolicy returns the user's policy for credential plugins: that of the file
// KUBERC or ~/.kube/kuberc. As in kubectl, KUBERC=off and KUBECTL_KUBERC=false disable
// it. A file that can't be read might forbid the plugin, so it is an error.
func pluginPolicy() (clientcmdapi.PluginPolicy, error) {
	path := os.Getenv("KUBERC")
	if path == "off" || os.Getenv("KUBECTL_KUBERC") == "false" {
		return clientcmdapi.PluginPolicy{}, nil
	}
	given := path != ""
	path = cmp.Or(path, filepath.Join(homedir.HomeDir(), ".kube", "kuberc"))
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !given {
		return clientcmdapi.PluginPolicy{}, nil
	}
	if err != nil {
		return clientcmdapi.PluginPolicy{}, fmt.Errorf("kuberc: %w", err)
	}
	for _, document := range bytes.Split(append([]byte("\n"), content...), []byte("\n---")) {
		var file kuberc
		if err := yaml.Unmarshal(document, &file); err != nil {
			return clientcmdapi.PluginPolicy{}, fmt.Errorf("kuberc %s: %w", path, oneLine(err))
		}
		if file.Kind != "Preference" {
			continue
		}
		policy := clientcmdapi.PluginPolicy{PolicyType: file.Policy}
		for _, entry := range file.Allowlist {
			policy.Allowlist = append(policy.Allowlist, clientcmdapi.AllowlistEntry{Command: cmp.Or(entry.Command, entry.Name)})
		}
		return policy, nil
	}
	return clientcmdapi.PluginPolicy{}, nil
}
