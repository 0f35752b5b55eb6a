// Command cluster runs a real one-node Kubernetes on this machine for the
// project's tests, its demo and its benchmarks: etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler and kubelet from source, with the
// distribution's containerd, runc and CNI plugins. It needs Linux and root.
//
// Everything runs below one supervisor, which is the first process of a PID
// namespace and has a mount namespace of its own. When it ends, however it
// ends, the kernel ends every process and takes away every mount with it, so
// nothing can be left running or mounted on the host.
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

  check              say whether this machine can run it
  up [-bin DIR]      start the cluster, or reuse the one that runs, and import DIR/images/*.tar
  down               end the cluster and remove all that belongs to it
  kill PROGRAM       kill one program of the cluster, such as kube-apiserver; it is started again
  further            run a second API server beside it, print the path of its kubeconfig once
                     it is ready, and end it when the standard input ends
  kubeconfig         print the path of the kubeconfig
  image OUT REF PROGRAM
                     write a docker-archive with one static program as its entrypoint
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
		bin := flags.String("bin", "bin", "the folder with the program kubernetes and the images")
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
	case "further":
		return further(ctx, os.Stdin, out)
	case "supervise": // how up starts the supervisor; not for people
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
