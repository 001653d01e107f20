// Package plugin is the command line of kubectl-meshprobe: it reads flags, talks to the cluster with the rights of the
// person who calls it, and prints.
package plugin

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/meshprobe/httpsmeshprobe/internal/report"
)

// Exit codes. A command that judges nothing ends with ExitVerified when it succeeds and with ExitUnknown when it fails.
const (
	// ExitVerified says that all that was asked for is as declared.
	ExitVerified = report.ExitVerified
	// ExitRefuted says that something contradicts what is declared.
	ExitRefuted = report.ExitRefuted
	// ExitUnknown says that it could not be found out: no cluster, no rights, a bad flag, an interrupt, no verdict in time.
	ExitUnknown = report.ExitUnknown
)

// exit is an error that ends the program with a code of its own. Without message it prints nothing.
type exit struct {
	code    int
	message string
}

func (e exit) Error() string { return e.message }

// failure ends the program with ExitUnknown and a sentence.
func failure(format string, values ...any) error {
	return exit{code: ExitUnknown, message: fmt.Sprintf(format, values...)}
}

// Program is how the program was called.
type Program struct {
	genericiooptions.IOStreams
	// Version is that of the program.
	Version string
	// Arguments are those of the command line, without the program's name.
	Arguments []string
	// Hurry is closed when the person asks a second time that the program ends. Nil: nobody can.
	Hurry <-chan struct{}
}

// session is what all commands share: where they print, and how they reach the cluster.
type session struct {
	Program
	flags *genericclioptions.ConfigFlags
}

// Run runs one command and returns the program's exit code. It prints errors itself, in one line. When ctx ends, the
// command ends soon, and leaves nothing behind.
func Run(ctx context.Context, program Program) int {
	s := &session{Program: program, flags: genericclioptions.NewConfigFlags(true)}
	silenceLibraries()
	root := s.command()
	root.SetArgs(program.Arguments)
	root.SetIn(program.In)
	root.SetOut(program.Out)
	root.SetErr(program.ErrOut)
	err := root.ExecuteContext(ctx)
	var ended exit
	switch {
	case err == nil:
		return ExitVerified
	case errors.As(err, &ended):
	case ctx.Err() != nil:
		ended = exit{ExitUnknown, "interrupted"}
	default:
		ended = exit{ExitUnknown, s.sentence(err)}
	}
	if ended.message != "" {
		fmt.Fprintln(program.ErrOut, "error:", ended.message)
	}
	return ended.code
}

func (s *session) command() *cobra.Command {
	root := &cobra.Command{
		Use:               "kubectl-meshprobe",
		Short:             "Look at HTTPSMeshProbes, run them, and see why they say what they say",
		Annotations:       map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl meshprobe"},
		Args:              knownCommand,
		RunE:              func(command *cobra.Command, _ []string) error { return command.Help() },
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	s.flags.AddFlags(root.PersistentFlags())
	root.SetFlagErrorFunc(badFlag)
	for flag, complete := range map[string]cobra.CompletionFunc{
		"namespace": s.completeNamespaces, "context": s.completeContexts,
	} {
		// It fails for a flag that does not exist alone.
		_ = root.RegisterFlagCompletionFunc(flag, complete)
	}
	root.AddCommand(
		s.getCommand(),
		s.runCommand(),
		s.triggerCommand(),
		s.explainCommand(),
		s.uiCommand(),
		s.completionCommand(),
		s.versionCommand(),
	)
	return root
}

// knownCommand names the commands that are nearest to one that does not exist.
func knownCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, command := range root.Commands() {
		if command.IsAvailableCommand() {
			names = append(names, command.Name())
		}
	}
	return failure("there is no command %q%s", args[0], didYouMean(args[0], names, "kubectl meshprobe --help lists them"))
}

// badFlag says what is wrong with a flag, and where it can be looked up.
func badFlag(command *cobra.Command, err error) error {
	message := err.Error()
	hint := fmt.Sprintf("%s --help lists the flags", command.CommandPath())
	if name, ok := strings.CutPrefix(message, "unknown flag: --"); ok {
		return failure("%s%s", message, didYouMean(name, flagNames(command), hint))
	}
	if strings.HasSuffix(message, "?") {
		return failure("%s", message)
	}
	return failure("%s: %s", message, hint)
}

func (s *session) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintln(s.Out, "kubectl-meshprobe", s.Version)
			return nil
		},
	}
}

func noArguments(command *cobra.Command, args []string) error {
	if len(args) > 0 {
		return failure("%s takes no arguments, and there is %q", command.CommandPath(), args[0])
	}
	return nil
}
