package controllers

import (
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// covers says whether everything that is desired stands in the existing object, whatever defaults and other managers
// have put beside it.
func covers(existing client.Object, desired *unstructured.Unstructured) bool {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(existing)
	if err != nil {
		return false
	}
	restoreDisable(content, desired.GetKind())
	for field, want := range desired.Object {
		// A typed object out of the cache has neither apiVersion nor kind.
		if field != "apiVersion" && field != "kind" && !contains(content[field], want) {
			return false
		}
	}
	return true
}

// restoreDisable puts a DestinationRule's TLS mode back that Istio's types leave out: DISABLE is their zero value there.
func restoreDisable(content map[string]any, kind string) {
	tls, ok, err := unstructured.NestedMap(content, "spec", "trafficPolicy", "tls")
	if kind != "DestinationRule" || !ok || err != nil || tls["mode"] != nil {
		return
	}
	tls["mode"] = string(api.ClientTLSDisable)
	_ = unstructured.SetNestedMap(content, tls, "spec", "trafficPolicy", "tls") // it was just there
}

func contains(have, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		have, ok := have.(map[string]any)
		if !ok {
			return len(want) == 0
		}
		for key, value := range want {
			if !contains(have[key], value) {
				return false
			}
		}
		return true
	case []any:
		have, ok := have.([]any)
		if !ok || len(have) < len(want) {
			return len(want) == 0
		}
		if isOwnerReferences(want) {
			return containsInAnyOrder(have, want)
		}
		if len(have) != len(want) {
			return false
		}
		for i := range want {
			if !contains(have[i], want[i]) {
				return false
			}
		}
		return true
	case string:
		// Istio's types leave a mode out that is UNSET: it is their zero value.
		return have == any(want) || have == nil && want == string(api.MTLSUnset)
	default:
		return equality.Semantic.DeepEqual(have, want)
	}
}

// isOwnerReferences recognises the one list whose order does not matter and whose entries come from many probes.
func isOwnerReferences(list []any) bool {
	if len(list) == 0 {
		return false
	}
	first, ok := list[0].(map[string]any)
	return ok && first["uid"] != nil
}

func containsInAnyOrder(have, want []any) bool {
	for _, wanted := range want {
		if !slices.ContainsFunc(have, func(one any) bool { return contains(one, wanted) }) {
			return false
		}
	}
	return true
}
