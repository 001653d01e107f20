// Package plugin is the command line of kubectl-meshprobe: it reads flags, talks to the cluster with the rights of the
// person who calls it, and prints.
package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// Exit codes. A command that judges nothing ends with ExitVerified when it succeeds and with ExitUnknown when it fails.
const (
	// ExitVerified says that all that was asked for is as declared.
	ExitVerified = 0
	// ExitRefuted says that something contradicts what is declared.
	ExitRefuted = 1
	// ExitUnknown says that it could not be found out: no cluster, no rights, a bad flag, an interrupt, no verdict in time.
	ExitUnknown = 2
)

// exit is an error that ends the program with a code of its own. Without message it prints nothing.
type exit struct {
	code    int
	message string
}

func (e exit) Error() string { return e.message }

// session is what all commands share: where they print, and how they reach the cluster.
type session struct {
	genericiooptions.IOStreams
	version string
	flags   *genericclioptions.ConfigFlags
}

// Run runs one command and returns the program's exit code. It prints errors itself, in one line.
func Run(ctx context.Context, version string, args []string, streams genericiooptions.IOStreams) int {
	s := &session{IOStreams: streams, version: version, flags: genericclioptions.NewConfigFlags(true)}
	root := s.command()
	root.SetArgs(args)
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	err := root.ExecuteContext(ctx)
	var ended exit
	switch {
	case err == nil:
		return ExitVerified
	case errors.As(err, &ended):
		if ended.message != "" {
			fmt.Fprintln(streams.ErrOut, "error:", ended.message)
		}
		return ended.code
	default:
		fmt.Fprintln(streams.ErrOut, "error:", err)
		return ExitUnknown
	}
}

func (s *session) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "kubectl-meshprobe",
		Short:         "Look at HTTPSMeshProbes, run them, and see why they say what they say",
		Version:       s.version,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl meshprobe"},
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	s.flags.AddFlags(root.PersistentFlags())
	root.AddCommand(s.explainCommand())
	return root
}

// client talks to the API server as the kubeconfig and the flags say.
func (s *session) client() (client.WithWatch, error) {
	config, err := s.flags.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, securityv1.AddToScheme, networkingv1.AddToScheme, api.AddToScheme} {
		utilruntime.Must(add(scheme))
	}
	return client.NewWithWatch(config, client.Options{Scheme: scheme})
}

// namespace is the one that the flags and the kubeconfig's context name.
func (s *session) namespace() (string, error) {
	namespace, _, err := s.flags.ToRawKubeConfigLoader().Namespace()
	return namespace, err
}

// isTerminal says whether what is written to w is seen by a person at once.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
