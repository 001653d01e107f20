package controllers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// obstacle is an error that belongs into the status: it says where the probe stands and when to try again.
type obstacle struct {
	standing verdict.Standing
	retry    time.Duration
}

func (o *obstacle) Error() string { return o.standing.Message }

// ownObstacle is how long to wait for what is in the way of our own making, foreignObstacle for what is not.
const (
	ownObstacle     = 2 * time.Second
	foreignObstacle = 15 * time.Second
)

// apply brings one object of the probe to its desired state by server-side apply. It leaves an object alone that
// already is as desired, never touches one that is not the operator's, and reports one that somebody had changed.
func (r *Reconciler) apply(ctx context.Context, v *visit, desired *unstructured.Unstructured) error {
	existing, err := r.existing(ctx, v, desired)
	if err != nil {
		return err
	}
	options := []client.ApplyOption{client.FieldOwner(fixture.ManagedBy)}
	hash := hashOf(desired)
	key := objectName(desired)
	if existing != nil {
		if err := refuseForeign(v.Probe, existing, desired); err != nil {
			return err
		}
		last, known := r.applied.get(v.Probe, key)
		unchanged := known && last.uid == existing.GetUID() && last.hash == hash
		if unchanged && isOlder(existing, last.resourceVersion) {
			return nil // the cache has not seen our own last change yet
		}
		drifted := unchanged && !covers(existing, desired)
		if unchanged && !drifted {
			return nil
		}
		if drifted {
			defer r.reportRepair(v.Probe, existing, desired.GetKind())
		}
		if drifted || !known {
			if err := r.resetLists(ctx, existing, desired); err != nil {
				return err
			}
		}
		// The UID makes the API server refuse to apply onto a namesake that has come since.
		desired.SetUID(existing.GetUID())
		options = append(options, client.ForceOwnership)
	}
	// Without force, an object of somebody else that appeared a moment ago is a conflict and stays as it is.
	if err := r.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(desired), options...); err != nil {
		return applyObstacle(desired, existing == nil, err)
	}
	r.applied.put(v.Probe, key, appliedObject{uid: desired.GetUID(), hash: hash, resourceVersion: desired.GetResourceVersion()})
	return nil
}

// existing returns the object as it is now, or nil. The cache holds the operator's own objects alone, so what is not in
// it is asked for at the API server.
func (r *Reconciler) existing(ctx context.Context, v *visit, desired *unstructured.Unstructured) (client.Object, error) {
	if cached := v.Existing(desired.GetKind(), desired.GetName()); cached != nil {
		return cached, nil
	}
	live := &metav1.PartialObjectMetadata{}
	live.SetGroupVersionKind(desired.GroupVersionKind())
	err := r.Live.Get(ctx, client.ObjectKeyFromObject(desired), live)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", objectName(desired), err)
	}
	return live, nil
}

// refuseForeign lets through what the operator owns: objects of this probe and clients of this operator's probes.
func refuseForeign(probe *api.HTTPSMeshProbe, existing, desired metav1.Object) error {
	name := objectName(desired)
	if existing.GetDeletionTimestamp() != nil {
		return &obstacle{verdict.Standing{Phase: verdict.Progressing, Reason: api.ReasonProgressing, Message: name + " is being deleted; it will be made anew"}, ownObstacle}
	}
	shared := metav1.GetControllerOfNoCopy(desired) == nil
	for _, owner := range existing.GetOwnerReferences() {
		ours := owner.Kind == api.Kind && strings.HasPrefix(owner.APIVersion, api.GroupVersion.Group+"/")
		switch {
		case ours && (shared || owner.UID == probe.UID):
			return nil
		case ours && owner.Name == probe.Name:
			return &obstacle{verdict.Standing{Phase: verdict.Progressing, Reason: api.ReasonProgressing,
				Message: name + " belongs to a deleted probe of the same name and is about to go"}, ownObstacle}
		}
	}
	// The last owner of a client may be gone, and the garbage collector not there yet.
	if shared && len(existing.GetOwnerReferences()) == 0 && existing.GetLabels()[fixture.LabelManagedBy] == fixture.ManagedBy {
		return nil
	}
	return &obstacle{verdict.Standing{Phase: verdict.Stalled, Reason: api.ReasonNameTaken,
		Message: fmt.Sprintf("%s exists and was not made for this probe; it is left alone: rename or delete it, or give the probe another name", name)}, foreignObstacle}
}

func applyObstacle(desired *unstructured.Unstructured, creating bool, err error) error {
	name := objectName(desired)
	switch {
	case apierrors.IsConflict(err) && creating:
		return &obstacle{verdict.Standing{Phase: verdict.Stalled, Reason: api.ReasonNameTaken,
			Message: fmt.Sprintf("%s appeared while it was to be made, and is not the operator's; it is left alone: rename or delete it", name)}, foreignObstacle}
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return &obstacle{verdict.Standing{Phase: verdict.Troubled, Reason: api.ReasonApplyFailed,
			Message: fmt.Sprintf("the API server refuses %s: %v", name, err)}, foreignObstacle}
	default:
		return fmt.Errorf("apply %s: %w", name, err)
	}
}

// lastForeignManager names who wrote to an object last, other than the operator and the cluster's own controllers.
func lastForeignManager(object metav1.Object) string {
	name, latest := "", time.Time{}
	for _, entry := range object.GetManagedFields() {
		foreign := entry.Manager != fixture.ManagedBy && entry.Manager != "kube-controller-manager" && entry.Subresource == ""
		if foreign && entry.Time != nil && !entry.Time.Time.Before(latest) {
			name, latest = entry.Manager, entry.Time.Time
		}
	}
	return name
}

// isOlder says whether the object is older than a resource version that we were given for it.
func isOlder(object metav1.Object, resourceVersion string) bool {
	order, err := resourceversion.CompareResourceVersion(object.GetResourceVersion(), resourceVersion)
	return err == nil && order < 0
}

func hashOf(desired *unstructured.Unstructured) string {
	encoded, err := json.Marshal(desired.Object)
	if err != nil {
		panic(err) // built from typed values, which always encode
	}
	sum := sha256.Sum256(encoded)
	return hex.EncodeToString(sum[:])
}

func objectName(object metav1.Object) string {
	kind := "object"
	if u, ok := object.(*unstructured.Unstructured); ok {
		kind = u.GetKind()
	}
	return kind + " " + object.GetNamespace() + "/" + object.GetName()
}

// appliedObjects remembers what was applied for each probe, to tell somebody else's change from our own.
type appliedObjects struct {
	mu      sync.Mutex
	byProbe map[types.NamespacedName]map[string]appliedObject
}

type appliedObject struct {
	uid             types.UID
	hash            string
	resourceVersion string
}

func (a *appliedObjects) get(probe *api.HTTPSMeshProbe, key string) (appliedObject, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	object, ok := a.byProbe[client.ObjectKeyFromObject(probe)][key]
	return object, ok
}

func (a *appliedObjects) put(probe *api.HTTPSMeshProbe, key string, object appliedObject) {
	a.mu.Lock()
	defer a.mu.Unlock()
	name := client.ObjectKeyFromObject(probe)
	if a.byProbe == nil {
		a.byProbe = map[types.NamespacedName]map[string]appliedObject{}
	}
	if a.byProbe[name] == nil {
		a.byProbe[name] = map[string]appliedObject{}
	}
	a.byProbe[name][key] = object
}

func (a *appliedObjects) forget(probe types.NamespacedName) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.byProbe, probe)
}
