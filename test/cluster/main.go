// Command cluster runs a real one-node Kubernetes cluster on this machine for
// the project's tests, demo and benchmarks: etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler and kubelet built from source, with
// the distribution's containerd, runc and CNI plugins. It needs Linux and
// root.
//
// All programs run below one supervisor, which is the first process of a PID
// namespace and has its own mount namespace. When the supervisor ends for any
// reason, the kernel kills every process and removes every mount, so nothing
// is left running or mounted on the host.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: cluster COMMAND

  check              report whether this machine can run the cluster
  up [-bin DIR]      start the cluster, or reuse the running one, and import DIR/images/*.tar
  down               stop the cluster and remove everything that belongs to it
  kill PROGRAM       kill one program of the cluster, e.g. kube-apiserver; it is restarted
  second             run a second API server, print the path of its kubeconfig when it is
                     ready, and stop it when standard input is closed
  kubeconfig         print the path of the kubeconfig
  image OUT REF PATH write a docker-archive with a static program as its entrypoint, or with
                     the files of a directory
`

var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case errors.Is(err, errUsage):
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return errUsage
	}
	switch command, args := args[0], args[1:]; command {
	case "check":
		return check()
	case "up":
		flags := flag.NewFlagSet("up", flag.ContinueOnError)
		bin := flags.String("bin", "bin", "directory with the program kubernetes and the images")
		if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
			return errUsage
		}
		return up(ctx, *bin, out)
	case "down":
		return down(out)
	case "kill":
		if len(args) != 1 {
			return errUsage
		}
		return kill(args[0])
	case "second":
		return runSecond(ctx, os.Stdin, out)
	case "supervise": // internal, started by up
		return supervise(ctx)
	case "kubeconfig":
		_, err := fmt.Fprintln(out, adminKubeconfig)
		return err
	case "image":
		if len(args) != 3 {
			return errUsage
		}
		return writeImage(args[0], args[1], args[2])
	}
	return errUsage
}
