package kube

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
)

// Contexts returns the names of the kubeconfig's contexts, sorted.
func Contexts(kubeconfig string) ([]string, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	raw, err := rules.Load()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	return slices.Sorted(maps.Keys(raw.Contexts)), nil
}

// NamespaceNames asks the cluster for the names of its namespaces.
func (c *Cluster) NamespaceNames(ctx context.Context) ([]string, error) {
	clients, err := newClients(c)
	if err != nil {
		return nil, err
	}
	var all corev1.NamespaceList
	if err := clients.core.Get().Resource("namespaces").Do(ctx).Into(&all); err != nil {
		return nil, fmt.Errorf("context %s: namespaces: %w", c.Context, oneLine(err))
	}
	names := make([]string, 0, len(all.Items))
	for i := range all.Items {
		names = append(names, all.Items[i].Name)
	}
	return names, nil
}

// ServiceNames lists the names of the Services in the given namespaces, or in all
// if none are given.
func (c *Cluster) ServiceNames(ctx context.Context, namespaces []string) ([]types.NamespacedName, error) {
	clients, err := newClients(c)
	if err != nil {
		return nil, err
	}
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceAll}
	}
	var names []types.NamespacedName
	for _, namespace := range namespaces {
		var all corev1.ServiceList
		if err := clients.core.Get().Namespace(namespace).Resource("services").Do(ctx).Into(&all); err != nil {
			return nil, fmt.Errorf("context %s: services: %w", c.Context, oneLine(err))
		}
		for i := range all.Items {
			names = append(names, nameOf(&all.Items[i]))
		}
	}
	return names, nil
}

// LogIn makes one request, so that a credential plugin asks now what it has to ask. That
// the cluster can't be reached, or refuses, is no error.
func (c *Cluster) LogIn(ctx context.Context) error {
	clients, err := newClients(c)
	if err != nil {
		return fmt.Errorf("context %s: %w", c.Context, err)
	}
	_ = clients.core.Get().AbsPath("/version").Do(ctx)
	return nil
}
