package kube

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubeshore/kubeshore/pkg/plan"
)

// maxFollowed limits the Services in namespaces that aren't followed, which are
// read because ExternalName Services refer to them: each takes two watches.
const maxFollowed = 64

// externalScopes returns the scopes of the Services that ExternalName Services in the
// given scopes refer to, directly or through others, without those in scopes, and how
// many more there are. Only what the given scopes lead to counts: two Services in other
// namespaces that refer to each other keep nothing alive.
func externalScopes(contextName string, watchers map[scope]*scopeWatcher, scopes map[scope][]string) (external []scope, omitted int) {
	queue := slices.Collect(maps.Keys(scopes))
	found := make(map[scope]bool)
	for len(queue) > 0 {
		watcher := watchers[queue[0]]
		queue = queue[1:]
		if watcher == nil {
			continue
		}
		for _, service := range watcher.readServices() {
			at, ok := externalScope(contextName, service)
			_, namespace := scopes[scope{namespace: at.namespace}]
			if _, known := scopes[at]; ok && !namespace && !known && !found[at] {
				found[at] = true
				queue = append(queue, at)
			}
		}
	}
	external = slices.SortedFunc(maps.Keys(found), func(a, b scope) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.service, b.service))
	})
	omitted = max(0, len(external)-maxFollowed)
	return external[:len(external)-omitted], omitted
}

// externalScope returns the scope of the Service that an ExternalName Service refers
// to, if service is one and refers to a Service of its cluster.
func externalScope(contextName string, service *corev1.Service) (scope, bool) {
	if service.Spec.Type != corev1.ServiceTypeExternalName {
		return scope{}, false
	}
	target, ok := plan.ParseClusterName(contextName, service.Spec.ExternalName)
	return scope{target.Service.Namespace, target.Service.Name}, ok
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
