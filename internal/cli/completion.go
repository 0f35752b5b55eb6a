package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kubeshore/kubeshore/pkg/control"
	"github.com/kubeshore/kubeshore/pkg/kube"
)

// completeTime is how long a shell may wait for the cluster.
const completeTime = 3 * time.Second

// statusFor asks the running kubeshore, for a shell that waits.
func statusFor(cmd *cobra.Command) (control.Status, error) {
	client, err := newClient()
	if err != nil {
		return control.Status{}, err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTime)
	defer cancel()
	return client.Status(ctx)
}

// completeServices completes services of the running kubeshore.
func completeServices(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
	status, err := statusFor(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := make([]string, 0, len(status.Services))
	for _, s := range status.Services {
		if !slices.Contains(given, s.Name) {
			names = append(names, cobra.CompletionWithDesc(s.Name, string(s.State)))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeForwarded completes namespaces that the running kubeshore forwards.
func completeForwarded(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	status, err := statusFor(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	context, _ := cmd.Flags().GetString("context")
	var names []string
	for _, c := range status.Contexts {
		if context == "" || context == c.Name || context == c.Alias {
			names = append(names, c.Namespaces...)
		}
	}
	return inList(typed, distinct(names))
}

// completeForwardedContexts completes contexts that the running kubeshore forwards.
func completeForwardedContexts(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	status, err := statusFor(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := make([]string, 0, len(status.Contexts))
	for _, c := range status.Contexts {
		names = append(names, c.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeContexts completes contexts of the kubeconfig.
func completeContexts(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	kubeconfig, _ := cmd.Flags().GetString("kubeconfig")
	names, err := kube.Contexts(kubeconfig)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return inList(typed, names)
}

// ofCluster completes the last value of a list by what names returns of the cluster that
// the flags name.
func ofCluster(names func(context.Context, *cobra.Command, *kube.Cluster) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completeTime)
		defer cancel()
		kubeconfig, _ := cmd.Flags().GetString("kubeconfig")
		contexts := listOf(cmd, "context")
		cluster, err := kube.Load(kubeconfig, strings.Join(contexts[:min(len(contexts), 1)], ""), userAgent())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return inList(typed, names(ctx, cmd, cluster))
	}
}

// namespaceNames returns the namespaces of a cluster; where they may not be listed, the
// context's own is known.
func namespaceNames(ctx context.Context, _ *cobra.Command, cluster *kube.Cluster) []string {
	names, err := cluster.NamespaceNames(ctx)
	if err != nil {
		return []string{cluster.Namespace}
	}
	return names
}

// serviceNames returns the services of the namespaces that the flags name.
func serviceNames(ctx context.Context, cmd *cobra.Command, cluster *kube.Cluster) []string {
	namespaces := listOf(cmd, "namespace")
	if all, _ := cmd.Flags().GetBool("all-namespaces"); len(namespaces) == 0 && !all {
		namespaces = []string{cluster.Namespace}
	}
	names, _ := cluster.ServiceNames(ctx, namespaces) // who may not list them types them
	return names
}

// listOf returns the values of a flag that has a list.
func listOf(cmd *cobra.Command, name string) []string {
	if flag := cmd.Flags().Lookup(name); flag != nil && flag.Value.String() != "" {
		return strings.Split(flag.Value.String(), ",")
	}
	return nil
}

// completeFlags has flags completed that name contexts, namespaces and services of clusters.
func completeFlags(cmd *cobra.Command) {
	for name, complete := range map[string]cobra.CompletionFunc{
		"context": completeContexts, "namespace": ofCluster(namespaceNames), "include": ofCluster(serviceNames), "exclude": ofCluster(serviceNames),
	} {
		_ = cmd.RegisterFlagCompletionFunc(name, complete) // it fails for a flag that isn't there
	}
	for name, values := range map[string][]string{
		"log-format": {formatText, formatJSON}, "listen": {"auto", "lookup", "each"}, "transport": {"auto", "spdy", "websocket"}, "balance": {"round-robin", "least", "first"},
	} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
}

// completeNothing has a shell offer no files where none are meant: for what a command
// takes, and for its flags' values, unless they are completed by something else.
func completeNothing(cmd *cobra.Command) {
	if cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	cmd.LocalFlags().VisitAll(func(flag *pflag.Flag) {
		if _, known := cmd.GetFlagCompletionFunc(flag.Name); !known && !slices.Contains(fileFlags(), flag.Name) {
			_ = cmd.RegisterFlagCompletionFunc(flag.Name, cobra.NoFileCompletions)
		}
	})
}

// fileFlags returns the flags that name files.
func fileFlags() []string {
	return []string{"config", "kubeconfig", "hosts-file", "hosts-path", "fwd-conf"}
}

// inList completes the last value of a list.
func inList(typed string, values []string) ([]string, cobra.ShellCompDirective) {
	before := ""
	if i := strings.LastIndexByte(typed, ','); i >= 0 {
		before = typed[:i+1]
	}
	given := strings.Split(before, ",")
	found := make([]string, 0, len(values))
	for _, value := range values {
		if !slices.Contains(given, value) {
			found = append(found, before+value)
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}
