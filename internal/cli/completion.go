package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kubeshore/kubeshore/internal/printable"
	"github.com/kubeshore/kubeshore/internal/term"
	"github.com/kubeshore/kubeshore/internal/version"
	"github.com/kubeshore/kubeshore/pkg/control"
	"github.com/kubeshore/kubeshore/pkg/credential"
	"github.com/kubeshore/kubeshore/pkg/kube"
)

// completionTimeout is how long a shell waits for the cluster or the daemon.
const completionTimeout = 3 * time.Second

// statusForCompletion returns the status of the running daemon.
func statusForCompletion(cmd *cobra.Command) (control.Status, error) {
	client, err := newClient()
	if err != nil {
		return control.Status{}, err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	return client.Status(ctx)
}

// completeServices completes services of the running daemon.
func completeServices(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
	status, err := statusForCompletion(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := make([]string, 0, len(status.Services))
	for _, s := range status.Services {
		if !slices.Contains(given, s.Name) {
			names = append(names, cobra.CompletionWithDesc(printable.Text(s.Name), printable.Text(string(s.State))))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeForwarded completes namespaces that the running daemon forwards.
func completeForwarded(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	status, err := statusForCompletion(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	selected, _ := cmd.Flags().GetString("context")
	var names []string
	for _, c := range status.Contexts {
		if selected == "" || selected == c.Name || selected == c.Alias {
			for _, namespace := range c.Namespaces {
				if !slices.Contains(names, namespace) {
					names = append(names, namespace)
				}
			}
		}
	}
	return completeList(typed, names)
}

// completeForwardedContexts completes contexts that the running daemon forwards.
func completeForwardedContexts(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	status, err := statusForCompletion(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := make([]string, 0, len(status.Contexts))
	for _, c := range status.Contexts {
		names = append(names, printable.Text(c.Name))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// newKubeconfig returns the kubeconfig at a path, whose credential plugins can't ask
// anything. closePlugins ends those that still run.
func newKubeconfig(path string) (kubeconfig *kube.Kubeconfig, closePlugins func()) {
	plugins := credential.NewPlugins(nil, nil)
	return kube.NewKubeconfig(path, version.UserAgent(), plugins, nil), plugins.Close
}

// completeContexts completes contexts of the kubeconfig.
func completeContexts(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	path, _ := cmd.Flags().GetString("kubeconfig")
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	kubeconfig, closePlugins := newKubeconfig(path)
	defer closePlugins()
	names, err := kubeconfig.Contexts(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return completeList(typed, names)
}

// completeFromCluster completes the last value of a list with names from the
// cluster that the flags select.
func completeFromCluster(names func(context.Context, *cobra.Command, *kube.Cluster) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		path, _ := cmd.Flags().GetString("kubeconfig")
		contexts := listOf(cmd, "context")
		kubeconfig, closePlugins := newKubeconfig(path)
		defer closePlugins()
		cluster, err := kubeconfig.Load(ctx, strings.Join(contexts[:min(len(contexts), 1)], ""))
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return completeList(typed, names(ctx, cmd, cluster))
	}
}

// namespaceNames returns the namespaces of a cluster, or only the context's own if
// the user can't list them.
func namespaceNames(ctx context.Context, _ *cobra.Command, cluster *kube.Cluster) []string {
	names, err := cluster.NamespaceNames(ctx)
	if err != nil {
		return []string{cluster.Namespace}
	}
	return names
}

// serviceNames returns the services in the namespaces that the flags select.
func serviceNames(ctx context.Context, cmd *cobra.Command, cluster *kube.Cluster) []string {
	namespaces := listOf(cmd, "namespace")
	if all, _ := cmd.Flags().GetBool("all-namespaces"); len(namespaces) == 0 && !all {
		namespaces = []string{cluster.Namespace}
	}
	services, _ := cluster.ServiceNames(ctx, namespaces) // if the user may not list them, nothing is completed
	names := make([]string, len(services))
	for i, s := range services {
		names[i] = s.Name + "." + s.Namespace
	}
	return names
}

// listOf returns the values of a list flag.
func listOf(cmd *cobra.Command, name string) []string {
	if flag := cmd.Flags().Lookup(name); flag != nil && flag.Value.String() != "" {
		return strings.Split(flag.Value.String(), ",")
	}
	return nil
}

// completeFlags completes the flags with contexts, namespaces and services of
// clusters, and those with fixed values.
func completeFlags(cmd *cobra.Command) {
	for name, complete := range map[string]cobra.CompletionFunc{
		"context": completeContexts, "namespace": completeFromCluster(namespaceNames), "include": completeFromCluster(serviceNames), "exclude": completeFromCluster(serviceNames),
	} {
		_ = cmd.RegisterFlagCompletionFunc(name, complete) // an error for a flag that the command lacks
	}
	for name, values := range map[string][]string{
		"log-format": {string(term.Text), string(term.JSON)}, "listen": {"auto", "lookup", "each"}, "transport": {"auto", "spdy", "websocket"}, "balance": {"round-robin", "least", "first"},
		"for": {"me", "everyone"},
	} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
}

// disableFileCompletion stops shells from offering files for arguments and flag
// values that are not files, unless another completion is registered.
func disableFileCompletion(cmd *cobra.Command) {
	if cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	cmd.LocalFlags().VisitAll(func(flag *pflag.Flag) {
		if _, known := cmd.GetFlagCompletionFunc(flag.Name); !known && !slices.Contains(fileFlags(), flag.Name) {
			_ = cmd.RegisterFlagCompletionFunc(flag.Name, cobra.NoFileCompletions)
		}
	})
}

// fileFlags returns the flags whose values are files.
func fileFlags() []string {
	return []string{"config", "kubeconfig", "hosts-file", "hosts-path", "fwd-conf"}
}

// completeList completes the last value of a list.
func completeList(typed string, values []string) ([]string, cobra.ShellCompDirective) {
	before := ""
	if i := strings.LastIndexByte(typed, ','); i >= 0 {
		before = typed[:i+1]
	}
	given := strings.Split(before, ",")
	found := make([]string, 0, len(values))
	for _, value := range values {
		if !slices.Contains(given, value) {
			found = append(found, before+printable.Text(value))
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}
