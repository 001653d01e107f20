// Command lab brings up a real one-node Kubernetes with Istio on a bare Linux
// machine, in namespaces of its own. See README.md beside this file.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// command is one verb of the lab.
type command struct {
	name    string
	summary string
	run     func(ctx context.Context, arguments []string) error
}

// exitCode is an error that only says how the process is to end, because
// everything else has been said.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func main() {
	if runInsideNamespaces(os.Args) {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := dispatch(ctx, os.Args[1:])
	var code exitCode
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case errors.As(err, &code):
		os.Exit(int(code))
	default:
		fmt.Fprintln(os.Stderr, "lab: "+err.Error())
		os.Exit(1)
	}
}

func dispatch(ctx context.Context, arguments []string) error {
	commands := allCommands()
	// --name may stand before the verb as well: lab --name dev up.
	var before []string
	for len(arguments) > 1 && (arguments[0] == "--name" || arguments[0] == "-name") {
		before, arguments = append(before, arguments[:2]...), arguments[2:]
	}
	if len(arguments) == 0 {
		printUsage(os.Stderr, commands)
		return exitCode(2)
	}
	if verb := arguments[0]; verb == "help" || verb == "--help" || verb == "-h" {
		printUsage(os.Stdout, commands)
		return nil
	}
	for _, c := range commands {
		if c.name == arguments[0] {
			return c.run(ctx, append(before, arguments[1:]...))
		}
	}
	return fmt.Errorf("there is no command %q; lab help lists them", arguments[0])
}

func printUsage(to *os.File, commands []command) {
	fmt.Fprint(to, "lab brings up a real one-node Kubernetes with Istio, in namespaces of its own.\n\nUsage: lab COMMAND [--name NAME] [flags]\n\n")
	for _, c := range commands {
		fmt.Fprintf(to, "  %-8s %s\n", c.name, c.summary)
	}
	fmt.Fprint(to, "\nEvery lab has a name (default: default); labs of different names run side by side.\nlab COMMAND --help tells more.\n")
}
