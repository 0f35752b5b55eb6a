package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/printable"
	"github.com/kubeshore/kubeshore/internal/servicetable"
	"github.com/kubeshore/kubeshore/pkg/control"
)

// psFormats are the output formats of ps.
var psFormats = []string{"", "wide", "name", "json", "yaml"}

func newPs(streams Streams) *cobra.Command {
	var format string
	var watch bool
	var filter serviceFilter
	cmd := &cobra.Command{
		Use:   "ps [SERVICE...]",
		Short: "Show the forwarded services",
		Long: `Show the services that the running kubeshore forwards: address, ports, pods
(ready/all), open connections, bytes sent and received, and state. Services with
problems come first.`,
		Example: `  kubeshore ps
  kubeshore ps db.data -n shop         # only this service, if it is in namespace shop
  kubeshore ps -o wide                 # also names and total connections
  kubeshore ps -w                      # watch for changes
  kubeshore ps -o json | jq -r '.services[] | select(.state | IN("ready", "skipped") | not).name'`,
		ValidArgsFunction: completeServices,
		RunE: func(cmd *cobra.Command, names []string) error {
			filter.names = names
			switch {
			case !slices.Contains(psFormats, format):
				return failure.Usage(fmt.Errorf("invalid --output %q: must be wide, name, json or yaml", format))
			case watch && format == "yaml":
				return failure.Usage(failure.WithHint(errors.New("--watch and --output yaml are mutually exclusive"), "use --output json, which prints an event per line"))
			}
			client, err := newClient()
			if err != nil {
				return err
			}
			if watch {
				return clientError(watchServices(cmd.Context(), client, streams.Out, filter, format))
			}
			return clientError(listServices(cmd.Context(), client, streams.Out, filter, format))
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "", "output format: wide, name, json or yaml")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "watch for changes")
	cmd.Flags().VarP((*commaList)(&filter.namespaces), "namespace", "n", "only services in these namespaces, separated by commas")
	_ = cmd.RegisterFlagCompletionFunc("namespace", completeForwarded)
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(psFormats[1:], cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// serviceFilter selects services by name and namespace. An empty list matches
// all.
type serviceFilter struct{ names, namespaces []string }

// matches reports whether the filter selects a service.
func (f serviceFilter) matches(id control.ServiceID, aliases ...string) bool {
	named := func(name string) bool { return name == id.Name || name == id.Service || slices.Contains(aliases, name) }
	return (len(f.namespaces) == 0 || slices.Contains(f.namespaces, id.Namespace)) &&
		(len(f.names) == 0 || slices.ContainsFunc(f.names, named))
}

// apply returns the status with the selected services only, and an error for names
// that match none.
func (f serviceFilter) apply(status control.Status) (control.Status, error) {
	var errs []error
	for _, name := range f.names {
		one := serviceFilter{[]string{name}, f.namespaces}
		if !slices.ContainsFunc(status.Services, func(s control.Service) bool { return one.matches(s.ID(), s.Names...) }) {
			errs = append(errs, fmt.Errorf("no such service: %s", name))
		}
	}
	status.Services = slices.DeleteFunc(status.Services, func(s control.Service) bool { return !f.matches(s.ID(), s.Names...) })
	return status, errors.Join(errs...)
}

// events returns a handler that passes on the events of the selected services. A
// service that was selected once stays so, even if it loses the name.
func (f serviceFilter) events(handle func(control.Event) error) func(control.Event) error {
	selected := make(map[control.ServiceID]bool)
	selects := func(id control.ServiceID, aliases ...string) bool {
		key := id
		key.Name = "" // it may change
		selected[key] = selected[key] || f.matches(id, aliases...)
		return selected[key]
	}
	var held *control.Event // the last event so far of those that belong together
	return func(e control.Event) error {
		if e.Status != nil {
			e.Status.Services = slices.DeleteFunc(e.Status.Services, func(s control.Service) bool { return !selects(s.ID(), s.Names...) })
		}
		if (e.Service == nil || selects(e.Service.ID(), e.Service.Names...)) && (e.Gone == nil || selects(*e.Gone)) {
			if held != nil {
				if err := handle(*held); err != nil {
					return err
				}
			}
			held = &e
		}
		if e.More || held == nil {
			return nil
		}
		last := *held
		last.More, held = false, nil
		return handle(last)
	}
}

// listServices writes the selected services once.
func listServices(ctx context.Context, client *control.Client, out io.Writer, filter serviceFilter, format string) error {
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	status, unknown := filter.apply(status)
	if len(status.Services) == 0 && unknown != nil {
		return unknown
	}
	return errors.Join(writeStatus(out, status, format), unknown)
}

// watchServices writes the selected services, and then their changes until ctx
// ends.
func watchServices(ctx context.Context, client *control.Client, out io.Writer, filter serviceFilter, format string) error {
	table := servicetable.New(out, format == "wide")
	err := client.Events(ctx, filter.events(func(e control.Event) error {
		switch {
		case format == "json":
			return writeJSON(out, e, "")
		case format == "name":
			return writeName(out, e)
		case e.Status != nil:
			return table.WriteStatus(*e.Status)
		case e.Service != nil:
			return table.WriteChange(*e.Service)
		case e.Gone != nil:
			_, err := fmt.Fprintf(out, "%s removed\n", printable.Text(e.Gone.Name))
			return err
		case e.Overview != nil:
			return table.WriteOverview(*e.Overview)
		}
		return nil
	}))
	if err == nil && ctx.Err() == nil {
		return errStopped
	}
	return err
}

// writeName writes the names of an event's services.
func writeName(out io.Writer, e control.Event) error {
	if e.Status != nil {
		return writeStatus(out, *e.Status, "name")
	}
	if e.Service == nil {
		return nil
	}
	_, err := fmt.Fprintln(out, printable.Text(e.Service.Name))
	return err
}

// writeJSON writes a value as JSON, with what a terminal could interpret escaped.
func writeJSON(out io.Writer, value any, indent string) error {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetIndent("", indent)
	if err := encoder.Encode(value); err != nil {
		return err
	}
	_, err := out.Write(printable.JSON(b.Bytes()))
	return err
}

func writeStatus(out io.Writer, status control.Status, format string) error {
	switch format {
	case "json":
		return writeJSON(out, status, "    ")
	case "yaml":
		var b bytes.Buffer
		if err := writeJSON(&b, status, ""); err != nil {
			return err
		}
		text, err := yaml.JSONToYAML(b.Bytes())
		if err != nil {
			return err
		}
		_, err = out.Write(printable.Lines(text))
		return err
	case "name":
		var b strings.Builder
		for _, s := range status.Services {
			b.WriteString(printable.Text(s.Name) + "\n")
		}
		_, err := io.WriteString(out, b.String())
		return err
	}
	return servicetable.New(out, format == "wide").WriteStatus(status)
}
