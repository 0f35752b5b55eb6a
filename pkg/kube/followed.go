package kube

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubeshore/kubeshore/pkg/plan"
)

// maxFollowed limits the Services in namespaces that aren't followed, which are
// read because ExternalName Services refer to them: each takes two watches.
const maxFollowed = 64

// externalScopes returns the scopes of the Services that the ExternalName Services
// of the watchers refer to, without those in scopes, and how many more there are.
func externalScopes(contextName string, watchers map[scope]*scopeWatcher, scopes map[scope][]string) (external []scope, omitted int) {
	for _, watcher := range watchers {
		for _, service := range watcher.readServices() {
			if service.Spec.Type != corev1.ServiceTypeExternalName {
				continue
			}
			target, ok := plan.ParseClusterName(contextName, service.Spec.ExternalName)
			if !ok {
				continue
			}
			at := scope{target.Service.Namespace, target.Service.Name}
			_, namespace := scopes[scope{namespace: at.namespace}]
			if _, service := scopes[at]; !namespace && !service {
				external = append(external, at)
			}
		}
	}
	slices.SortFunc(external, func(a, b scope) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.service, b.service))
	})
	external = slices.Compact(external)
	omitted = max(0, len(external)-maxFollowed)
	return external[:len(external)-omitted], omitted
}

// followExternalLocked adds the scopes of the Services that ExternalName Services
// refer to, and returns which ones these are.
func (w *contextWatcher) followExternalLocked(watchers map[scope]*scopeWatcher, scopes map[scope][]string) map[scope]bool {
	followed := make(map[scope]bool)
	external, omitted := externalScopes(w.context, watchers, scopes)
	for _, at := range external {
		scopes[at], followed[at] = nil, true
	}
	w.omitted = omitted
	return followed
}

// describeOmittedLocked describes that too many ExternalName Services refer to other
// namespaces.
func (w *contextWatcher) describeOmittedLocked() string {
	return fmt.Sprintf("ExternalName Services refer to %d more services in other namespaces than the %d that are followed; add their namespaces with -n (context %s)",
		w.omitted, maxFollowed, w.context)
}
