package kube

import (
	"path/filepath"
	"strings"
	"testing"
)

const withPlugin = `
apiVersion: v1
kind: Config
clusters: [{name: k, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: false}}}]
contexts: [{name: ctx, context: {cluster: k, user: u}}]
current-context: ctx
`

// The policy of kuberc applies, and so does one that can't be understood.
func TestPluginPolicy(t *testing.T) {
	path := kubeconfig(t, strings.ReplaceAll(withPlugin, "command: false", `command: "false"`))
	const head = "apiVersion: kubectl.config.k8s.io/v1beta1\nkind: Preference\n"
	for text, want := range map[string]string{
		head: "exit code 1",
		head + "credentialPluginPolicy: AllowAll":                                                     "exit code 1",
		head + "credentialPluginPolicy: DenyAll":                                                      "DenyAll",
		head + "credentialPluginPolicy: Allowlist\ncredentialPluginAllowlist: [{command: \"false\"}]": "exit code 1",
		head + "credentialPluginPolicy: Allowlist\ncredentialPluginAllowlist: [{name: \"true\"}]":     "credentialPluginAllowlist",
		head + "credentialPluginPolicy: Allowlist":                                                    "allowlist is unspecified",
		head + "credentialPluginPolicy: Perhaps":                                                      "unknown plugin policy",
		"kind: Other\ncredentialPluginPolicy: DenyAll\n---\n" + head:                                  "exit code 1",
		"{": "kuberc",
	} {
		t.Setenv("KUBERC", kubeconfig(t, text))
		cluster, err := load(t, path, "")
		if err == nil {
			err = cluster.Gate.LogIn(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
	t.Setenv("KUBERC", filepath.Join(t.TempDir(), "none"))
	if _, err := load(t, path, ""); err == nil {
		t.Error("a missing KUBERC: got no error")
	}
	t.Setenv("KUBERC", "off")
	if _, err := load(t, path, ""); err != nil {
		t.Errorf("KUBERC=off: %v", err)
	}
}
