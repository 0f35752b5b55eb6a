// Command bench benchmarks kubeshore and kubectl port-forward side by side on
// a real cluster and prints the ratios. The forwarders take turns within each
// round of each benchmark, so that other load on the machine affects all of
// them equally. The table shows the median of the rounds.
//
// A benchmark is a function that measures a running forwarder (see
// benchmarks). A forwarder is an implementation of the interface of that name
// (see forwarders). To add either, write it and add it to that list.
//
// Bench needs Linux, root, a kubeconfig, and the image kubeshore.test/peer:1
// in the cluster (bin/images/peer.tar).
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
		os.Exit(2) // the flag package has printed the error
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// options holds the command line.
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
	flags.StringVar(&o.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "kubeconfig `file` of the cluster")
	flags.StringVar(&o.kubectl, "kubectl", "bin/kubectl", "kubectl `program` to run")
	flags.StringVar(&o.kubeshore, "kubeshore", "bin/kubeshore", "kubeshore `program` to run")
	flags.StringVar(&o.out, "out", "", "`file` to write the page to (default none)")
	flags.IntVar(&o.rounds, "rounds", 5, "number of times to run each benchmark")
	flags.BoolVar(&o.quick, "quick", false, "run one short round, to check that everything works; its figures are meaningless")
	flags.BoolVar(&o.scale, "scale", false, "measure kubeshore with many services instead, and write scale.md next to -out; changes this machine's hosts file")
	flags.Func("run", "only run benchmarks whose name matches this `regexp`", func(text string) (err error) {
		o.only, err = regexp.Compile(text)
		return err
	})
	if err := flags.Parse(args); err != nil {
		return o, errUsage
	}
	switch {
	case flags.NArg() > 0:
		fmt.Fprintf(errOut, "bench: unexpected argument %q\n", flags.Arg(0))
		return o, errUsage
	case o.rounds < 1:
		fmt.Fprintf(errOut, "bench: invalid -rounds %d: must be at least 1\n", o.rounds)
		return o, errUsage
	case o.kubeconfig == "":
		fmt.Fprintln(errOut, "bench: no kubeconfig: set -kubeconfig or KUBECONFIG")
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
		return fmt.Errorf("bench: create directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	env, err := describeEnvironment(ctx, o, dir)
	if err != nil {
		return err
	}
	if o.scale {
		return runScale(ctx, o, dir, env, errOut)
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
	if err := os.WriteFile(o.out, []byte(benchmarkPage(env, t)), 0o644); err != nil {
		return fmt.Errorf("bench: write page: %w", err)
	}
	return nil
}

// measureAll creates the testbed, runs all benchmarks and removes the testbed.
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

// forwarders returns kubeshore, followed by the forwarders to compare it with.
func forwarders(o options, dir string) []forwarder {
	return []forwarder{
		&kubeshore{program: o.kubeshore, dir: filepath.Join(dir, "kubeshore")},
		&kubectl{title: "kubectl", program: o.kubectl, dir: filepath.Join(dir, "kubectl")},
		&kubectl{title: "kubectl, SPDY", program: o.kubectl, dir: filepath.Join(dir, "kubectl-spdy"), env: []string{"KUBECTL_PORT_FORWARD_WEBSOCKETS=false"}},
	}
}
