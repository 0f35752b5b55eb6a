// Command kubectl is kubectl and nothing else, as people have it, of the same
// version as the cluster. That in the program kubernetes is the same to use,
// but has the memory of all the others: no benchmark would be fair to it.
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
