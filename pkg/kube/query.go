package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubeshore/kubeshore/internal/dnsname"
)

// NamespaceNames lists the names of the cluster's namespaces. Invalid ones are left
// out.
func (c *Cluster) NamespaceNames(ctx context.Context) ([]string, error) {
	requests, err := newClients(c)
	if err != nil {
		return nil, err
	}
	var list corev1.NamespaceList
	if err := requests.core.Get().Resource("namespaces").Do(ctx).Into(&list); err != nil {
		return nil, fmt.Errorf("context %s: list namespaces: %w", c.Context, oneLine(err))
	}
	names := make([]string, 0, len(list.Items))
	for i := range list.Items {
		if dnsname.IsLabel(list.Items[i].Name) {
			names = append(names, list.Items[i].Name)
		}
	}
	return names, nil
}

// ServiceNames lists the names of the Services in the given namespaces, or in all
// if none are given. Invalid ones are left out.
func (c *Cluster) ServiceNames(ctx context.Context, namespaces []string) ([]types.NamespacedName, error) {
	requests, err := newClients(c)
	if err != nil {
		return nil, err
	}
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceAll}
	}
	var names []types.NamespacedName
	for _, namespace := range namespaces {
		var list corev1.ServiceList
		if err := requests.core.Get().Namespace(namespace).Resource("services").Do(ctx).Into(&list); err != nil {
			return nil, fmt.Errorf("context %s: list services: %w", c.Context, oneLine(err))
		}
		for i := range list.Items {
			if checkNames(&list.Items[i], namespace) == nil {
				names = append(names, nameOf(&list.Items[i]))
			}
		}
	}
	return names, nil
}
