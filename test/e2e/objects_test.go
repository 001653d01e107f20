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

func (o object) path() string { return o.resource + "/" + o.GetName() }

// operatorName is the operator's field manager, and the value of the label on its objects.
const operatorName = "httpsmeshprobe"

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

// contents are all objects of a namespace by resource and name, each without what its own controllers write into it: of
// a pod that does nothing, kubelet goes on writing the status for a while.
func contents(t *testing.T, ns string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, object := range everything(t, ns) {
		content := object.DeepCopy()
		content.SetResourceVersion("")
		content.SetManagedFields(nil)
		delete(content.Object, "status")
		encoded, err := content.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		found[object.path()] = string(encoded)
	}
	return found
}

// awaitRest waits until nothing in a namespace changes any more, and returns what is there.
func awaitRest(t *testing.T, ns string) map[string]string {
	t.Helper()
	const enough = 5
	var now map[string]string
	same := 0
	await(t, "namespace "+ns+" to come to rest", func() error {
		before := now
		now = contents(t, ns)
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

// checkUnchanged expects everything to be there as it was, the operator to have written into nothing of it, and whatever
// has come since to be the operator's.
func checkUnchanged(t *testing.T, before map[string]string, ns string) {
	t.Helper()
	now := contents(t, ns)
	for path, content := range before {
		if now[path] != content {
			t.Errorf("%s was %s and is now %q", path, content, now[path])
		}
	}
	for _, object := range everything(t, ns) {
		writtenBy := func(entry metav1.ManagedFieldsEntry) bool { return entry.Manager == operatorName }
		_, there := before[object.path()]
		switch {
		case there && slices.ContainsFunc(object.GetManagedFields(), writtenBy):
			t.Errorf("the operator has written into %s: %+v", object.path(), object.GetManagedFields())
		case !there && object.resource != "httpsmeshprobes" && object.GetLabels()["app.kubernetes.io/managed-by"] != operatorName:
			t.Errorf("%s has come, and is not labelled as the operator's", object.path())
		}
	}
}
