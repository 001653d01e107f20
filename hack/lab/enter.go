package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/cache"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/instance"
)

func runExec(ctx context.Context, arguments []string) error {
	flags := newFlags("exec -- PROGRAM [ARGUMENT...]", "Runs a program of this machine inside the lab's network, with KUBECONFIG set.\nIt sees this machine's files, and of networks only the lab's.")
	name := nameFlag(flags)
	inNode := flags.Bool("in-node", false, "run a program of the node instead, with the node's files")
	lab, err := parseForLab(flags, name, arguments)
	if err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("lab exec needs a program to run, as in: lab exec -- kubectl get nodes")
	}
	if *inNode {
		return exited(lab.RunInNode(ctx, flags.Args(), os.Stdin))
	}
	return lab.ExecInNetwork(flags.Args())
}

func runLoad(ctx context.Context, arguments []string) error {
	flags := newFlags("load IMAGE.tar", "Gives the lab the container images of a tar archive, as docker save or lab image write it.\nThey stay until the lab goes down.")
	name := nameFlag(flags)
	lab, err := parseForLab(flags, name, arguments)
	if err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("lab load needs one image archive")
	}
	archive, err := os.Open(flags.Arg(0))
	if err != nil {
		return fmt.Errorf("cannot read the image archive: %w", err)
	}
	defer archive.Close()
	return exited(lab.RunInNode(ctx, []string{"ctr", "--namespace", "k8s.io", "images", "import", "-"}, archive))
}

// exited has this program end as another one did.
func exited(code int, err error) error {
	if err == nil && code != 0 {
		return exitCode(code)
	}
	return err
}

func runEnv(_ context.Context, arguments []string) error {
	flags := newFlags("env", "Prints shell lines after which kubectl and istioctl reach the lab:\n  eval \"$(lab env)\"")
	name := nameFlag(flags)
	lab, err := parseForLab(flags, name, arguments)
	if err != nil {
		return err
	}
	if _, ok := lab.Running(); !ok {
		return fmt.Errorf("the lab %q is not up: lab --name %s up starts it", lab.Name, lab.Name)
	}
	fmt.Printf("export KUBECONFIG='%s'\nexport PATH='%s':\"$PATH\"\n", lab.Kubeconfig(), lab.BinDir())
	return nil
}

// parseForLab parses a command's flags and finds the lab it is about.
func parseForLab(flags *flag.FlagSet, name *labName, arguments []string) (instance.Instance, error) {
	if err := flags.Parse(arguments); err != nil {
		return instance.Instance{}, err
	}
	store, err := cache.Open()
	if err != nil {
		return instance.Instance{}, err
	}
	return instance.Named(store, name.String()), nil
}

func needRoot(verb string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("lab %s needs root: call it as root or with sudo", filepath.Base(verb))
	}
	return nil
}
