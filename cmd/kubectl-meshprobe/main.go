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
	ctx, hurry := interrupts()
	os.Exit(plugin.Run(ctx, plugin.Program{
		IOStreams: genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr},
		Version:   version,
		Arguments: os.Args[1:],
		Hurry:     hurry,
	}))
}

// interrupts returns a context that ends at the first signal and a channel that is closed at the second. The third ends
// the program as if nobody caught it.
func interrupts() (context.Context, <-chan struct{}) {
	// A reader of our output that goes away (kubectl meshprobe run | head) must not end the program before it has cleaned up.
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	// nohup ignores it, and is to be obeyed.
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	ctx, cancel := context.WithCancel(context.Background())
	hurry := make(chan struct{})
	go func() {
		<-signals
		cancel()
		<-signals
		signal.Stop(signals)
		close(hurry)
	}()
	return ctx, hurry
}
