package credential

import (
	"fmt"
	"os/exec"
	"path/filepath"

	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// checkPolicy returns an error if a policy (kuberc's credentialPluginPolicy) forbids
// to run command. An entry of an allowlist is the path of a program, or a name that
// is looked up in PATH, as in kubectl.
func checkPolicy(policy clientcmdapi.PluginPolicy, command *exec.Cmd) error {
	switch policy.PolicyType {
	case "", clientcmdapi.PluginPolicyAllowAll:
		return nil
	case clientcmdapi.PluginPolicyDenyAll:
		return forbiddenError{"kuberc's credentialPluginPolicy is DenyAll"}
	case clientcmdapi.PluginPolicyAllowlist:
	default:
		return forbiddenError{fmt.Sprintf("kuberc's credentialPluginPolicy %q is unknown", policy.PolicyType)}
	}
	if command.Err != nil {
		return nil //nolint:nilerr // a program that isn't found can't run either, and Run reports that
	}
	for _, entry := range policy.Allowlist {
		allowed, err := exec.LookPath(entry.Command)
		if err == nil && filepath.Clean(allowed) == filepath.Clean(command.Path) {
			return nil
		}
	}
	return forbiddenError{command.Path + " is not in kuberc's credentialPluginAllowlist"}
}

// forbiddenError reports that the user's policy forbids to run a plugin.
type forbiddenError struct{ reason string }

func (e forbiddenError) Error() string { return e.reason }
