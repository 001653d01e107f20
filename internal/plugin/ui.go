package plugin

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/inventory"
	"github.com/meshprobe/httpsmeshprobe/internal/page"
)

type uiOptions struct {
	place               inventory.Place
	allNamespaces, open bool
	oneNamespace        bool
	port                uint16
}

const uiLong = `Serve a read-only page about all probes on this machine, with your own rights, until Ctrl-C.

It listens on 127.0.0.1 alone, and lets in whoever has the token in the address that it prints. It shows the probes of all
namespaces; where you may not list those, the ones of your context's namespace.`

const uiExamples = `  # all probes, live
  kubectl meshprobe ui --open

  # those of one namespace, always at the same port
  kubectl meshprobe ui -n shop --port 8743`

func (s *session) uiCommand() *cobra.Command {
	o := uiOptions{}
	command := &cobra.Command{
		Use:     "ui",
		Short:   "Show all probes on a page in your browser, live",
		Long:    uiLong,
		Example: uiExamples,
		Args:    noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			o.oneNamespace = command.Flags().Changed("namespace")
			return s.ui(command.Context(), o)
		},
	}
	command.Flags().BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "the probes of all namespaces, or an error where you may not list them")
	command.Flags().Uint16Var(&o.port, "port", 0, "port to listen on; 0 for any free one")
	command.Flags().BoolVar(&o.open, "open", false, "open the page in the browser")
	addPlaceFlags(command, &o.place)
	return command
}

func (s *session) ui(ctx context.Context, o uiOptions) error {
	if o.allNamespaces && o.oneNamespace {
		return failure("give either --all-namespaces or --namespace")
	}
	reader, err := s.client()
	if err != nil {
		return err
	}
	namespace, err := s.namespaceToShow(ctx, reader, o)
	if err != nil {
		return err
	}
	server, err := page.Listen(page.Options{
		Client: reader, Namespace: namespace, Cluster: s.contextName(), Place: o.place, Sentence: s.sentence, Port: int(o.port),
	})
	if errors.Is(err, syscall.EADDRINUSE) {
		return failure("port %d is taken: give another --port, or none for any free one", o.port)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(s.Out, server.URL())
	fmt.Fprintln(s.ErrOut, "The page is for you alone: whoever has the address can look. Ctrl-C ends it.")
	if o.open {
		s.openBrowser(server.URLOnce())
	}
	return server.Run(ctx)
}

// namespaceToShow is empty for all of them. Where listing in all is forbidden and nobody insisted, it is the context's.
func (s *session) namespaceToShow(ctx context.Context, reader client.Client, o uiOptions) (string, error) {
	own, err := s.namespace()
	if err != nil {
		return "", err
	}
	if o.oneNamespace {
		if err := canList(ctx, reader, own); err != nil {
			return "", err
		}
		return own, requireNamespace(ctx, reader, own)
	}
	everywhere := canList(ctx, reader, "")
	if !apierrors.IsForbidden(everywhere) || o.allNamespaces {
		return "", everywhere
	}
	if canList(ctx, reader, own) != nil {
		return "", failure("%s, or name a namespace in which you have it with -n", s.sentence(everywhere))
	}
	fmt.Fprintf(s.ErrOut, "You may not list the probes of all namespaces: the page shows those of %s (-n names another).\n", own)
	return own, nil
}

func canList(ctx context.Context, reader client.Client, namespace string) error {
	return reader.List(ctx, &api.HTTPSMeshProbeList{}, client.InNamespace(namespace), client.Limit(1))
}

// contextName is the kubeconfig's context that is used; empty where there is none, as inside a pod.
func (s *session) contextName() string {
	if name := s.flags.Context; name != nil && *name != "" {
		return *name
	}
	raw, err := s.flags.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return ""
	}
	return raw.CurrentContext
}

// openBrowser starts the platform's opener and does not wait for it: some openers are the browser.
func (s *session) openBrowser(address string) {
	opener := browserOpener(address)
	err := opener.Start()
	if err == nil {
		err = opener.Process.Release()
	}
	if err != nil {
		fmt.Fprintf(s.ErrOut, "No browser could be opened (%v): open the address yourself.\n", err)
	}
}
