// Command kubectl-meshprobe is the kubectl plugin: kubectl meshprobe get, run, trigger, explain, ui.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/meshprobe/httpsmeshprobe/internal/plugin"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	code := plugin.Run(ctx, version, os.Args[1:], streams)
	stop()
	os.Exit(code)
}
