package e2e

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
)

// object is any object of a namespace.
type object struct {
	unstructured.Unstructured
	// resource is its kind in the plural, such as "deployments".
	resource string
}

// everything lists every object of every kind in a namespace, but for events.
func everything(t *testing.T, ns string) []object {
	t.Helper()
	lists, err := discovery.ServerPreferredNamespacedResources(lab.clientset.Discovery())
	if err != nil {
		t.Fatal(err)
	}
	dynamicClient, err := dynamic.NewForConfig(lab.config)
	if err != nil {
		t.Fatal(err)
	}
	var all []object
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, resource := range list.APIResources {
			// Endpoints are EndpointSlices once more, and deprecated.
			if !slices.Contains(resource.Verbs, "list") || resource.Name == "events" || resource.Name == "endpoints" {
				continue
			}
			found, err := dynamicClient.Resource(version.WithResource(resource.Name)).Namespace(ns).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatalf("list %s: %v", resource.Name, err)
			}
			for _, item := range found.Items {
				all = append(all, object{item, resource.Name})
			}
		}
	}
	return all
}

// versions are the resource versions of everything in a namespace, by resource and name.
func versions(t *testing.T, ns string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, object := range everything(t, ns) {
		found[object.resource+"/"+object.GetName()] = object.GetResourceVersion()
	}
	return found
}

// awaitRest waits until nothing in a namespace changes any more, and returns the versions.
func awaitRest(t *testing.T, ns string) map[string]string {
	t.Helper()
	const enough = 5
	var now map[string]string
	same := 0
	await(t, "namespace "+ns+" to come to rest", func() error {
		before := now
		now = versions(t, ns)
		same++
		if !maps.Equal(before, now) {
			same = 0
		}
		if same < enough {
			return fmt.Errorf("something has just changed")
		}
		return nil
	})
	return now
}

// checkUnchanged expects everything to be there as it was, and whatever has come since to be the operator's or the
// test's own.
func checkUnchanged(t *testing.T, before map[string]string, ns string) {
	t.Helper()
	now := versions(t, ns)
	for name, version := range before {
		if now[name] != version {
			t.Errorf("%s was version %s and is now %q", name, version, now[name])
		}
	}
	for _, object := range everything(t, ns) {
		name := object.resource + "/" + object.GetName()
		if _, there := before[name]; there || object.GetLabels()["app.kubernetes.io/managed-by"] == "httpsmeshprobe" {
			continue
		}
		if object.resource != "httpsmeshprobes" {
			t.Errorf("%s has come, and is not labelled as the operator's", name)
		}
	}
}
