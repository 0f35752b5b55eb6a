// Command kubectl is plain kubectl in the version of the cluster. The kubectl
// in the program kubernetes works the same, but uses the memory of all the
// programs in it, which would make benchmarks unfair.
package main

import (
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

func main() {
	util.CheckErr(cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()))
}
