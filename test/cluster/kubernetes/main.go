// Command kubernetes is etcd, kube-apiserver, kube-controller-manager,
// kube-scheduler, kubelet and kubectl in one program. It runs the one whose
// name it is called by. One program instead of six saves most of the link time
// and disk space.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	run := func(c *cobra.Command) { os.Exit(cli.Run(c)) }
	programs := map[string]func(){
		"etcd":                    func() { etcdmain.Main(os.Args) },
		"kube-apiserver":          func() { run(apiserver.NewAPIServerCommand()) },
		"kube-controller-manager": func() { run(controllermanager.NewControllerManagerCommand()) },
		"kube-scheduler":          func() { run(scheduler.NewSchedulerCommand()) },
		"kubelet":                 func() { run(kubelet.NewKubeletCommand(context.Background())) },
		"kubectl": func() {
			util.CheckErr(cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()))
		},
	}
	program, ok := programs[filepath.Base(os.Args[0])]
	if !ok {
		names := make([]string, 0, len(programs))
		for name := range programs {
			names = append(names, name)
		}
		slices.Sort(names)
		fmt.Fprintf(os.Stderr, "%s: unknown program name, must be one of %q\n", os.Args[0], names)
		os.Exit(2)
	}
	program()
}
