package plugin

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// selection is which probes a command is about: those of its arguments, or all that a namespace and labels select.
type selection struct {
	names         []string
	namespace     string
	allNamespaces bool
	labels        string
}

func (c *selection) addFlags(command *cobra.Command) {
	command.Flags().BoolVarP(&c.allNamespaces, "all-namespaces", "A", false, "the probes of all namespaces")
	command.Flags().StringVarP(&c.labels, "selector", "l", "", "only probes with these labels, such as team=shop,tier!=test")
}

// complete takes the arguments, and the namespace from flags and kubeconfig.
func (c *selection) complete(s *session, args []string) error {
	for _, argument := range args {
		kind, name, ok := strings.Cut(argument, "/")
		if !ok {
			name = argument
		}
		if ok && !slices.Contains([]string{"hmp", "httpsmeshprobe", "httpsmeshprobes", "httpsmeshprobe.meshprobe.dev", "httpsmeshprobes.meshprobe.dev"}, kind) {
			return failure("%q is no %s: give its name alone, or as hmp/NAME", argument, resource)
		}
		if !slices.Contains(c.names, name) {
			c.names = append(c.names, name)
		}
	}
	switch {
	case len(c.names) > 0 && c.allNamespaces:
		return failure("a probe cannot be named across all namespaces: leave out --all-namespaces or the name")
	case len(c.names) > 0 && c.labels != "":
		return failure("give either names or --selector")
	}
	if _, err := labels.Parse(c.labels); err != nil {
		return failure("--selector %q: %s", c.labels, oneLine(err.Error()))
	}
	if c.allNamespaces {
		return nil
	}
	var err error
	c.namespace, err = s.namespace()
	return err
}

// options are what the API server is asked for. The selector has been parsed before.
func (c *selection) options() *client.ListOptions {
	selector, _ := labels.Parse(c.labels)
	return &client.ListOptions{Namespace: c.namespace, LabelSelector: selector}
}

// read returns the selected probes, as the API server has them. A name without a probe is an error.
func (c *selection) read(ctx context.Context, reader client.Reader) ([]unstructured.Unstructured, error) {
	if len(c.names) == 0 {
		list, err := c.list(ctx, reader)
		if err != nil {
			return nil, err
		}
		if len(list.Items) == 0 && c.namespace != "" {
			return nil, requireNamespace(ctx, reader, c.namespace)
		}
		return list.Items, nil
	}
	var found []unstructured.Unstructured
	for _, name := range c.names {
		probe := &unstructured.Unstructured{}
		probe.SetGroupVersionKind(api.GroupVersion.WithKind(api.Kind))
		err := reader.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: name}, probe)
		if apierrors.IsNotFound(err) {
			return nil, notFound(ctx, reader, c.namespace, name)
		}
		if err != nil {
			return nil, err
		}
		found = append(found, *probe)
	}
	return found, nil
}

// list is like read, and knows as of when it is true. A name without a probe is none of it.
func (c *selection) list(ctx context.Context, reader client.Reader) (*unstructured.UnstructuredList, error) {
	list := emptyList()
	if err := reader.List(ctx, list, c.options()); err != nil {
		return nil, err
	}
	list.Items = slices.DeleteFunc(list.Items, func(probe unstructured.Unstructured) bool { return !c.has(probe.GetName()) })
	return list, nil
}

func (c *selection) has(name string) bool {
	return len(c.names) == 0 || slices.Contains(c.names, name)
}

func emptyList() *unstructured.UnstructuredList {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(api.GroupVersion.WithKind(api.Kind + "List"))
	return list
}
