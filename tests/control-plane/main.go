// Command cplane is the real control plane of the tests: etcd, kube-apiserver,
// kube-controller-manager and kube-scheduler in one binary, started on
// loopback with certificates, tokens, RBAC and an audit log of its own, beside
// a kubelet of pretend nodes whose pods run, fail, crash and log as their
// annotations say. README.md describes the annotations, the commands a test
// can give while it runs, and what differs from a real kubelet.
//
//	cplane up        starts everything, prints one line of JSON when ready,
//	                 obeys commands on stdin, and leaves nothing behind
//	cplane selftest  starts one and tries what the tests rely on
//
// The remaining subcommands are the components themselves; "up" runs them.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

const usage = `usage: cplane up [flags]
       cplane selftest [flags]
       cplane etcd|kube-apiserver|kube-controller-manager|kube-scheduler …
`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	name, args := os.Args[1], os.Args[2:]
	switch name {
	case "up":
		os.Exit(up(args))
	case "selftest":
		os.Exit(selftest(args))
	case "etcd":
		etcdmain.Main(append([]string{"etcd"}, args...))
	case "kube-apiserver":
		os.Exit(runComponent(apiserver.NewAPIServerCommand(), args))
	case "kube-controller-manager":
		os.Exit(runComponent(manager.NewControllerManagerCommand(), args))
	case "kube-scheduler":
		os.Exit(runComponent(scheduler.NewSchedulerCommand(), args))
	default:
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
}

func runComponent(c *cobra.Command, args []string) int {
	c.SetArgs(args)
	return cli.Run(c)
}
