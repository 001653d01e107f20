package plugin

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// resource is how kubectl names what is looked for.
const resource = "httpsmeshprobe"

// findProbe reads one probe. Where there is none of that name, the error offers the nearest names.
func findProbe(ctx context.Context, reader client.Reader, namespace, name string) (*api.HTTPSMeshProbe, error) {
	probe := &api.HTTPSMeshProbe{}
	err := reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, probe)
	if apierrors.IsNotFound(err) {
		return nil, notFound(ctx, reader, namespace, name)
	}
	return probe, err
}

// notFound says that there is no such probe, and what may have been meant: a name that is nearly the same, or the same
// name in another namespace. Whoever may not look around is told no names.
func notFound(ctx context.Context, reader client.Reader, namespace, name string) error {
	var here api.HTTPSMeshProbeList
	if reader.List(ctx, &here, client.InNamespace(namespace)) != nil {
		return failure("%s %q not found in namespace %s", resource, name, namespace)
	}
	if len(here.Items) == 0 {
		if err := requireNamespace(ctx, reader, namespace); err != nil {
			return err
		}
	}
	if near := didYouMean(name, namesOf(here.Items), ""); near != "" {
		return failure("%s %q not found in namespace %s%s", resource, name, namespace, near)
	}
	var everywhere api.HTTPSMeshProbeList
	if reader.List(ctx, &everywhere) == nil {
		for _, probe := range everywhere.Items {
			if probe.Name == name {
				return failure("%s %q not found in namespace %s; there is one in namespace %s (-n %s)", resource, name, namespace, probe.Namespace, probe.Namespace)
			}
		}
	}
	return failure("%s %q not found in namespace %s", resource, name, namespace)
}

func namesOf(probes []api.HTTPSMeshProbe) []string {
	names := make([]string, 0, len(probes))
	for i := range probes {
		names = append(names, probes[i].Name)
	}
	slices.Sort(names)
	return names
}

// requireNamespace fails where there is no such namespace. Who may not look is not told that there is none.
func requireNamespace(ctx context.Context, reader client.Reader, name string) error {
	if !apierrors.IsNotFound(reader.Get(ctx, client.ObjectKey{Name: name}, &corev1.Namespace{})) {
		return nil
	}
	var all corev1.NamespaceList
	if reader.List(ctx, &all) != nil {
		return failure("there is no namespace %q", name)
	}
	names := make([]string, 0, len(all.Items))
	for i := range all.Items {
		names = append(names, all.Items[i].Name)
	}
	return failure("there is no namespace %q%s", name, didYouMean(name, names, ""))
}
