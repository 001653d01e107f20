package controllers_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
)

// TestSamples runs without others beside it: its operator watches the whole cluster, as it does in earnest.
func TestSamples(t *testing.T) {
	o := startOperator(t, func(o *operator) { o.everywhere = true })
	want := map[string][]string{
		"no-sidecar":      {"200", "200", "200"},
		"mtls-disabled":   {"200", "200", "200"},
		"mtls-permissive": {"200", "200", "200"},
		"mtls-strict":     {"200", "refused", "refused"},
	}
	seen := map[string]*statuses{}
	for name := range want {
		seen[name] = o.follow(t, name)
		objects, err := objectsIn(filepath.Join("../config/samples", name+".yaml"))
		must(t, err)
		objects[0].SetNamespace(o.namespace)
		must(t, o.admin.Create(t.Context(), objects[0]))
	}
	for name, observed := range want {
		o.awaitVerified(t, name)
		status := o.probe(t, name).Status
		var got []string
		for i, path := range status.Paths {
			got = append(got, path.Observed)
			if path.Name != paths.Names()[i] || path.Outcome != api.OutcomeMatch || path.Expected != path.Observed || path.LastProbeTime == nil {
				t.Errorf("%s: path %+v", name, path)
			}
		}
		if !slices.Equal(got, observed) {
			t.Errorf("%s: observed %v, want %v", name, got, observed)
		}
		wantBegin(t, name, seen[name])
		for _, kind := range []string{api.ConditionReconciling, api.ConditionStalled} {
			if meta.FindStatusCondition(status.Conditions, kind) != nil {
				t.Errorf("%s: %s is present beside a verdict", name, kind)
			}
		}
	}
}

// wantBegin checks that a probe began with Progressing, and went from there to its verdict without a detour.
func wantBegin(t *testing.T, name string, seen *statuses) {
	t.Helper()
	var reasons []string
	for i, status := range seen.all() {
		ready := meta.FindStatusCondition(status.Conditions, api.ConditionReady)
		if ready == nil {
			if i > 0 || status.ObservedGeneration != -1 {
				t.Errorf("%s: status %d has no Ready: %+v", name, i, status)
			}
			continue
		}
		reconciling := meta.IsStatusConditionTrue(status.Conditions, api.ConditionReconciling)
		if reconciling != (ready.Reason == api.ReasonProgressing) {
			t.Errorf("%s: Reconciling is %v beside Ready %s (%s)", name, reconciling, ready.Status, ready.Reason)
		}
		reasons = append(reasons, ready.Reason)
	}
	if got := slices.Compact(reasons); !slices.Equal(got, []string{api.ReasonProgressing, api.ReasonVerified}) {
		t.Errorf("%s: Ready went through %v, want Progressing and Verified", name, got)
	}
}

func TestObjectsAreOwnedAndApplied(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	probe := o.create(t, "strict")
	o.awaitVerified(t, "strict")
	kinds := map[string][]string{
		"v1 ConfigMap": {"strict-nginx"}, "v1 ServiceAccount": {"strict-nginx"}, "v1 Service": {"strict-nginx"},
		"apps/v1 Deployment":                      {"meshprobe-outsider", "meshprobe-sleep", "strict-nginx"},
		"security.istio.io/v1 PeerAuthentication": {"strict-nginx"},
	}
	for kind, names := range kinds {
		var found []string
		for _, object := range o.made(t, kind) {
			found = append(found, object.GetName())
			shared := object.GetLabels()[fixture.LabelClient] != ""
			wantOwner(t, kind, object, probe, !shared)
			wantManager(t, kind, object, metav1.ManagedFieldsOperationApply)
		}
		if slices.Sort(found); !slices.Equal(found, names) {
			t.Errorf("%s: got %v, want %v", kind, found, names)
		}
	}
	secrets := o.made(t, "v1 Secret")
	if len(secrets) != 1 {
		t.Fatalf("Secrets: got %d, want 1", len(secrets))
	}
	wantOwner(t, "Secret", secrets[0], probe, true)
	wantManager(t, "Secret", secrets[0], metav1.ManagedFieldsOperationUpdate)
	var secret corev1.Secret
	must(t, o.get(t, secrets[0].GetName(), &secret))
	if secret.Type != corev1.SecretTypeTLS || secret.Immutable == nil || !*secret.Immutable {
		t.Errorf("Secret: got type %s, immutable %v", secret.Type, secret.Immutable)
	}
}

// made are the operator's objects of one kind ("apps/v1 Deployment") in the namespace.
func (o *operator) made(t *testing.T, kind string) []metav1.PartialObjectMetadata {
	t.Helper()
	var list metav1.PartialObjectMetadataList
	if _, err := fmt.Sscan(kind, &list.APIVersion, &list.Kind); err != nil {
		t.Fatal(err)
	}
	must(t, o.admin.List(t.Context(), &list, client.InNamespace(o.namespace), client.MatchingLabels{fixture.LabelManagedBy: fixture.ManagedBy}))
	return list.Items
}

func wantOwner(t *testing.T, kind string, object metav1.PartialObjectMetadata, probe *api.HTTPSMeshProbe, controlled bool) {
	t.Helper()
	owners := object.GetOwnerReferences()
	if len(owners) != 1 || owners[0].UID != probe.UID || owners[0].Kind != api.Kind || owners[0].APIVersion != api.GroupVersion.String() {
		t.Errorf("%s %s: owners %+v, want the probe alone", kind, object.Name, owners)
	}
	if got := metav1.GetControllerOf(&object) != nil; got != controlled {
		t.Errorf("%s %s: controlled %v, want %v", kind, object.Name, got, controlled)
	}
}

func wantManager(t *testing.T, kind string, object metav1.PartialObjectMetadata, operation metav1.ManagedFieldsOperationType) {
	t.Helper()
	for _, entry := range object.ManagedFields {
		switch {
		case entry.Subresource != "":
		case entry.Manager != fixture.ManagedBy || entry.Operation != operation:
			t.Errorf("%s %s: fields of %s by %s, want all of them %s's by %s", kind, object.Name, entry.Manager, entry.Operation, fixture.ManagedBy, operation)
		}
	}
}

func TestVerdictOutlivesTheOperator(t *testing.T) {
	t.Parallel()
	o := startOperator(t)
	o.create(t, "strict")
	o.awaitVerified(t, "strict")
	o.stop()
	seen := o.follow(t, "strict")
	o.start(t)
	o.awaitRuns(t, "strict", 3)
	seen.wantReady(t)
	if got := o.events(t, "strict", "Repaired"); len(got) != 0 {
		t.Errorf("events: got %v, want no repair where nothing was changed", got)
	}
}

func TestNothingIsWrittenButHeartbeats(t *testing.T) {
	t.Parallel()
	const heartbeat = 10 * time.Second
	o := startOperator(t, func(o *operator) { o.heartbeat = heartbeat })
	for name, mode := range map[string]api.MTLSMode{"strict": api.MTLSStrict, "unset": api.MTLSUnset, "disable": api.MTLSDisable} {
		o.create(t, name, func(p *api.HTTPSMeshProbe) { p.Spec.MTLS.Mode = mode })
	}
	for _, name := range []string{"strict", "unset", "disable"} {
		o.awaitVerified(t, name)
	}
	o.awaitRuns(t, "strict", 2)
	seen, before := o.follow(t, "strict"), len(o.calls.written())
	o.awaitRuns(t, "strict", 5)
	written := o.calls.written()[before:]
	for _, call := range written {
		if !slices.Contains([]string{"strict", "unset", "disable"}, filepath.Base(filepath.Dir(call))) || filepath.Base(call) != "status" {
			t.Errorf("written while nothing changed: %s", call)
		}
	}
	statuses := seen.all()
	for i := 1; i < len(statuses); i++ {
		if after := statuses[i].LastProbeTime.Sub(statuses[i-1].LastProbeTime.Time); after < heartbeat {
			t.Errorf("status written %v after the one before, want heartbeats of %v alone", after, heartbeat)
		}
	}
	// Five runs, 5 s apart, are two heartbeats and a half.
	if writes := len(statuses) - 1; writes < 1 || writes > 3 {
		t.Errorf("status written %d times in five runs, want 2", writes)
	}
	for _, name := range []string{"strict", "unset", "disable"} {
		if got := o.events(t, name, "Repaired"); len(got) != 0 {
			t.Errorf("%s: events %v, want no repair in a quiet cluster", name, got)
		}
	}
}
