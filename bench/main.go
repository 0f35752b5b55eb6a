// Command bench measures kubeshore and kubectl port-forward side by side on a
// real cluster, and prints the ratios. The forwarders take turns within each
// round of each measure, so that whatever else the machine does meets all of
// them; what is shown is the median of the rounds.
//
// A measure is a function from a running forwarder to figures (measures), and
// a forwarder is what implements the interface of that name (forwarders): to
// add one of either, write it and name it there.
//
// It needs Linux, root, a kubeconfig, and the image kubeshore.test/peer:1 in
// the cluster (bin/images/peer.tar).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"

	"golang.org/x/sync/errgroup"
)

var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, errUsage):
		os.Exit(2) // the flags have said what is wrong
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// options is what the command line says.
type options struct {
	kubeconfig, kubectl, kubeshore string
	out                            string
	rounds                         int
	only                           *regexp.Regexp
	quick, scale                   bool
}

func parse(args []string, errOut io.Writer) (options, error) {
	o := options{only: regexp.MustCompile("")}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(errOut)
	flags.StringVar(&o.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "kubeconfig of the cluster, one `file`")
	flags.StringVar(&o.kubectl, "kubectl", "bin/kubectl", "the kubectl `program`")
	flags.StringVar(&o.kubeshore, "kubeshore", "bin/kubeshore", "the kubeshore `program`")
	flags.StringVar(&o.out, "out", "", "`file` to write the page to (default: none)")
	flags.IntVar(&o.rounds, "rounds", 5, "how often each measure is taken")
	flags.BoolVar(&o.quick, "quick", false, "one short round, to see that everything works; the figures mean nothing")
	flags.BoolVar(&o.scale, "scale", false, "measure kubeshore with many services instead, and write scale.md beside -out; it writes this machine's hosts file")
	flags.Func("run", "only the measures whose name matches this `regexp`", func(text string) (err error) {
		o.only, err = regexp.Compile(text)
		return err
	})
	if err := flags.Parse(args); err != nil {
		return o, errUsage
	}
	if flags.NArg() > 0 || o.rounds < 1 || o.kubeconfig == "" {
		fmt.Fprintln(errOut, "bench: -kubeconfig, or KUBECONFIG, must name a file, -rounds is 1 at least, and there are no arguments")
		return o, errUsage
	}
	if o.quick {
		o.rounds = 1
	}
	return o, nil
}

func run(ctx context.Context, args []string, out, errOut io.Writer) (err error) {
	o, err := parse(args, errOut)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kubeshore-bench")
	if err != nil {
		return fmt.Errorf("bench: make folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	about, err := describeEnvironment(ctx, o, dir)
	if err != nil {
		return err
	}
	if o.scale {
		return runScale(ctx, o, dir, about, errOut)
	}
	t, err := measureAll(ctx, o, dir, errOut)
	if err != nil {
		return err
	}
	if err := t.write(out); err != nil {
		return fmt.Errorf("bench: print table: %w", err)
	}
	if o.out == "" {
		return nil
	}
	if err := os.WriteFile(o.out, []byte(benchmarkPage(about, t)), 0o644); err != nil {
		return fmt.Errorf("bench: write page: %w", err)
	}
	return nil
}

// runBenchmarks sets the stage, takes every measure, and clears the stage.
func measureAll(ctx context.Context, o options, dir string, log io.Writer) (t table, err error) {
	s, err := newTestbed(ctx, o, dir)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, s.cleanUp(ctx)) }()
	ctx, cancel := context.WithCancel(ctx)
	var running errgroup.Group
	running.Go(func() error { return s.proxy.Serve(ctx, s.proxyListener) })
	running.Go(func() error {
		defer cancel()
		var err error
		t, err = s.runBenchmarks(ctx, forwarders(o, dir), selectBenchmarks(o.only), o.rounds, log)
		return err
	})
	if err := running.Wait(); err != nil {
		return t, err
	}
	return t, nil
}

// forwarders returns ours, and then those it is measured beside.
func forwarders(o options, dir string) []forwarder {
	return []forwarder{
		&kubeshore{program: o.kubeshore, dir: filepath.Join(dir, "kubeshore")},
		&kubectl{title: "kubectl", program: o.kubectl, dir: filepath.Join(dir, "kubectl")},
		&kubectl{title: "kubectl, SPDY", program: o.kubectl, dir: filepath.Join(dir, "kubectl-spdy"), env: []string{"KUBECTL_PORT_FORWARD_WEBSOCKETS=false"}},
	}
}
