package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/kubeshore/kubeshore/internal/daemon"
	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/term"
	"github.com/kubeshore/kubeshore/internal/version"
	"github.com/kubeshore/kubeshore/pkg/control"
	"github.com/kubeshore/kubeshore/pkg/credential"
	"github.com/kubeshore/kubeshore/pkg/kube"
)

func newLogin(streams Streams) *cobra.Command {
	var kubeconfig string
	cmd := &cobra.Command{
		Use:   "login [CONTEXT...]",
		Short: "Log in to clusters for the running kubeshore",
		Long: `Run the credential plugins of the given contexts, or of all forwarded contexts, in
this terminal, and hand their credentials to the running kubeshore.`,
		Example: `  kubeshore login                      # all forwarded contexts
  kubeshore login staging              # one of them`,
		ValidArgsFunction: completeForwardedContexts,
		RunE: func(cmd *cobra.Command, contexts []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			client, err := newClient()
			if err != nil {
				return err
			}
			status, err := client.Status(ctx)
			if err != nil {
				return clientError(err)
			}
			terminal := term.NewAsyncWriter(streams.Err)
			log, _ := term.NewLog(streams.Err, term.Text, 0)
			l := &login{client: client, streams: streams, plugins: daemon.NewPlugins(terminal, log)}
			defer l.plugins.Close() // which restores the terminal after Ctrl-C
			l.kubeconfig = kube.MergeKubeconfigs(status.Kubeconfig, version.UserAgent(), l.plugins)
			if kubeconfig != "" {
				l.kubeconfig = kube.NewKubeconfig(kubeconfig, version.UserAgent(), l.plugins, nil)
			}
			err = l.run(ctx, status, contexts, log)
			if ctx.Err() != nil {
				return failure.Failed // the user knows why
			}
			return err
		},
	}
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig file (default: the one of the running kubeshore)")
	return cmd
}

// login is a run of the command login.
type login struct {
	client     *control.Client
	streams    Streams
	plugins    *credential.Plugins
	kubeconfig *kube.Kubeconfig
}

// run logs in to the named contexts, or to all that are forwarded and have a plugin.
// A context that fails doesn't affect the others.
func (l *login) run(ctx context.Context, status control.Status, named []string, log logrus.FieldLogger) error {
	contexts := named
	if len(named) == 0 {
		for _, c := range status.Contexts {
			contexts = append(contexts, c.Name)
		}
	}
	done := 0
	var errs []error
	for _, name := range contexts {
		skipped, err := l.logIn(ctx, status, name)
		switch {
		case err != nil:
			errs = append(errs, err)
		case !skipped:
			done++
		case len(named) > 0:
			errs = append(errs, fmt.Errorf("context %s has no credential plugin", name))
		}
	}
	if len(errs) == 0 && done == 0 {
		return errors.New("no forwarded context has a credential plugin")
	}
	for _, err := range errs[:max(len(errs)-1, 0)] {
		log.Error(failure.Line(err))
	}
	if len(errs) > 0 {
		return errs[len(errs)-1]
	}
	return nil
}

// logIn runs a context's plugin and hands its credential over. skipped is true if it
// has none.
func (l *login) logIn(ctx context.Context, status control.Status, name string) (skipped bool, err error) {
	i := slices.IndexFunc(status.Contexts, func(c control.Context) bool { return c.Name == name || c.Alias == name && name != "" })
	if i < 0 {
		return false, fmt.Errorf("context %s is not forwarded", name)
	}
	name = status.Contexts[i].Name
	cluster, err := l.kubeconfig.Load(ctx, name)
	if err != nil {
		return false, failure.WithHint(err, "if kubeshore read its kubeconfig from a pipe, set --kubeconfig")
	}
	if !cluster.Gate.HasPlugin() {
		return true, nil
	}
	if err := cluster.Gate.LogIn(ctx); err != nil {
		return false, credential.GiveUp(err)
	}
	c, ok := cluster.Gate.Credential()
	if !ok {
		return false, fmt.Errorf("context %s: the credential has already expired", name)
	}
	_, err = l.client.LogIn(ctx, control.Login{
		Context: name, Server: cluster.Server(), Token: c.Token, ClientCertificateData: c.ClientCertificateData, ClientKeyData: c.ClientKeyData, Expires: c.Expires,
	})
	if err != nil {
		return false, clientError(err)
	}
	until := ""
	if c.Expires != nil {
		until = ", valid until " + c.Expires.Local().Format(time.DateTime)
	}
	_, err = fmt.Fprintf(l.streams.Out, "context %s: kubeshore uses the new credential%s\n", name, until)
	return false, err
}
