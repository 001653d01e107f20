package controllers

import (
	"context"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
)

// resetLists takes out of an object's lists what others have put there. Server-side apply does not: an entry of another
// manager stays beside ours, and where it is ours with another key, such as a Service's port, the API server refuses both.
func (r *Reconciler) resetLists(ctx context.Context, existing client.Object, desired *unstructured.Unstructured) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(existing)
	if err != nil {
		return fmt.Errorf("convert %s: %w", objectName(desired), err)
	}
	patch := changedLists(content, desired.Object)
	if len(patch) == 0 {
		return nil
	}
	// The UID makes the API server refuse to patch a namesake that has come since.
	patch["metadata"] = map[string]any{"uid": existing.GetUID()}
	encoded, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("encode the repair of %s: %w", objectName(desired), err)
	}
	target := &unstructured.Unstructured{}
	target.SetGroupVersionKind(desired.GroupVersionKind())
	target.SetNamespace(desired.GetNamespace())
	target.SetName(desired.GetName())
	if err := r.Client.Patch(ctx, target, client.RawPatch(types.MergePatchType, encoded), client.FieldOwner(fixture.ManagedBy)); err != nil {
		return applyObstacle(desired, false, err)
	}
	return nil
}

// changedLists is a merge patch with every desired list that does not stand in the existing object as it is desired.
func changedLists(have, want map[string]any) map[string]any {
	patch := map[string]any{}
	for field, value := range want {
		switch value := value.(type) {
		case map[string]any:
			inner, _ := have[field].(map[string]any)
			if changed := changedLists(inner, value); len(changed) > 0 {
				patch[field] = changed
			}
		case []any:
			if !isOwnerReferences(value) && !contains(have[field], value) {
				patch[field] = value
			}
		}
	}
	return patch
}
