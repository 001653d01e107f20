package whatif

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
)

// Reference names an object by kind, in lower case, namespace and name.
type Reference struct{ Kind, Namespace, Name string }

// String is kind/namespace/name.
func (r Reference) String() string { return r.Kind + "/" + r.Namespace + "/" + r.Name }

// world is the cluster as it would be: a reader that finds the files' objects first, and then those of the cluster
// beneath, if there is one.
type world struct {
	objects map[Reference]client.Object
	removed map[Reference]bool
	below   client.Reader
	// gone are the workloads of the cluster that are removed.
	gone []workload
	// fresh are the objects that the cluster does not have.
	fresh []Reference
	// claimed is the sidecar that the probe claims: it counts for pods of namespaces of which nothing is known.
	claimed bool
}

var _ client.Reader = &world{}

// newWorld makes a world of the files' objects. Those that the cluster has keep the age that they have there; the others
// are made now.
func newWorld(ctx context.Context, files []client.Object, removed []Reference, below client.Reader, now time.Time) (*world, error) {
	w := &world{objects: map[Reference]client.Object{}, removed: map[Reference]bool{}, below: below}
	for _, object := range files {
		if err := w.add(ctx, object, now); err != nil {
			return nil, err
		}
		if probe, ok := object.(*api.HTTPSMeshProbe); ok && probe.Spec.Target.Service == nil {
			if err := w.addServersPolicies(ctx, probe, now); err != nil {
				return nil, err
			}
		}
	}
	for _, reference := range removed {
		if err := w.remove(ctx, reference); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// remove takes an object out of the world. One that is not there is a mistake: its name may be misspelt.
func (w *world) remove(ctx context.Context, reference Reference) error {
	inFiles := w.objects[reference] != nil
	w.removed[reference] = true
	if w.below == nil {
		if !inFiles {
			return fmt.Errorf("%s is not among the files, so it cannot be left out", reference)
		}
		return nil
	}
	object := newOf[reference.Kind]()
	err := w.below.Get(ctx, client.ObjectKey{Namespace: reference.Namespace, Name: reference.Name}, object)
	switch {
	case apierrors.IsNotFound(err) && inFiles:
		return nil
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%s is neither in the cluster nor among the files, so it cannot be left out", reference)
	case err != nil:
		return fmt.Errorf("get %s: %w", reference, err)
	}
	if made, ok := workloadOf(object); ok {
		made.empty = true
		w.gone = append(w.gone, made)
	}
	return nil
}

func (w *world) add(ctx context.Context, object client.Object, now time.Time) error {
	reference := referenceTo(object)
	if w.objects[reference] != nil {
		return fmt.Errorf("%s is there twice", reference)
	}
	object.SetCreationTimestamp(metav1.NewTime(now.Truncate(time.Second)))
	w.fresh = append(w.fresh, reference)
	if w.below != nil {
		existing := newOf[reference.Kind]()
		err := w.below.Get(ctx, client.ObjectKeyFromObject(object), existing)
		switch {
		case err == nil:
			object.SetCreationTimestamp(existing.GetCreationTimestamp())
			w.fresh = w.fresh[:len(w.fresh)-1]
		case !apierrors.IsNotFound(err) && !meta.IsNoMatchError(err):
			return fmt.Errorf("get %s: %w", reference, err)
		}
	}
	w.objects[reference] = object
	return nil
}

// addServersPolicies adds the policies that the operator makes for its own server, and takes away those that it would
// remove.
func (w *world) addServersPolicies(ctx context.Context, probe *api.HTTPSMeshProbe, now time.Time) error {
	made, name := fixture.Of(probe), fixture.ServerName(probe.Name)
	for _, policy := range []struct {
		kind   string
		wanted bool
		object *unstructured.Unstructured
	}{
		{kindPeerAuthentication, probe.Spec.Target.Sidecar == api.SidecarEnabled, fixture.PeerAuthentication(made)},
		{kindDestinationRule, fixture.WantsDestinationRule(made), fixture.DestinationRule(made, name)},
	} {
		if !policy.wanted {
			w.removed[Reference{policy.kind, probe.Namespace, name}] = true
			continue
		}
		object, err := Decode(policy.object)
		if err != nil {
			return err
		}
		if err := w.add(ctx, object, now); err != nil {
			return err
		}
	}
	return nil
}

// Get implements client.Reader.
func (w *world) Get(ctx context.Context, key client.ObjectKey, into client.Object, options ...client.GetOption) error {
	reference := Reference{kindOf(into), key.Namespace, key.Name}
	notFound := apierrors.NewNotFound(schema.GroupResource{Resource: reference.Kind}, key.Name)
	if w.removed[reference] {
		return notFound
	}
	if pod, ok := into.(*corev1.Pod); ok {
		if planned := w.plannedPod(ctx, key); planned != nil {
			*pod = *planned
			return nil
		}
	}
	if found := w.objects[reference]; found != nil {
		return set(into, found)
	}
	if w.below == nil {
		return notFound
	}
	return w.below.Get(ctx, key, into, options...)
}

// set copies an object into one of its type, or into its metadata.
func set(into, found client.Object) error {
	if metadata, ok := into.(*metav1.PartialObjectMetadata); ok {
		metadata.SetNamespace(found.GetNamespace())
		metadata.SetName(found.GetName())
		metadata.SetLabels(found.GetLabels())
		return nil
	}
	reflect.ValueOf(into).Elem().Set(reflect.ValueOf(found.DeepCopyObject()).Elem())
	return nil
}

// List implements client.Reader.
func (w *world) List(ctx context.Context, into client.ObjectList, options ...client.ListOption) error {
	wanted := client.ListOptions{}
	wanted.ApplyOptions(options)
	var items []runtime.Object
	if w.below != nil {
		if err := w.below.List(ctx, into, options...); err != nil {
			return err
		}
		var err error
		if items, err = meta.ExtractList(into); err != nil {
			return err
		}
	}
	kind := kindOfList(into)
	items = slices.DeleteFunc(items, func(item runtime.Object) bool {
		reference := referenceTo(item.(client.Object))
		return w.removed[reference] || w.objects[reference] != nil
	})
	for _, reference := range w.sorted() {
		object := w.objects[reference]
		inNamespace := wanted.Namespace == "" || wanted.Namespace == reference.Namespace
		if reference.Kind == kind && inNamespace && !w.removed[reference] && wantedLabels(wanted, object) {
			items = append(items, object)
		}
	}
	if kind == kindEndpointSlice {
		var err error
		if items, err = w.planned(ctx, items, wanted); err != nil {
			return err
		}
	}
	return meta.SetList(into, items)
}

func (w *world) sorted() []Reference { return sortedReferences(maps.Keys(w.objects)) }

func sortedReferences(references iter.Seq[Reference]) []Reference {
	return slices.SortedFunc(references, func(a, b Reference) int { return strings.Compare(a.String(), b.String()) })
}

func wantedLabels(options client.ListOptions, object client.Object) bool {
	return options.LabelSelector == nil || options.LabelSelector.Matches(labels.Set(object.GetLabels()))
}

const (
	kindPeerAuthentication = "peerauthentication"
	kindDestinationRule    = "destinationrule"
	kindEndpointSlice      = "endpointslice"
	kindService            = "service"
	kindNamespace          = "namespace"
	kindProbe              = "httpsmeshprobe"
	kindPod                = "pod"
	kindConfigMap          = "configmap"
	kindDeployment         = "deployment"
	kindStatefulSet        = "statefulset"
	kindDaemonSet          = "daemonset"
)

// newOf makes an empty object of each kind that bears on what a path sees.
var newOf = map[string]func() client.Object{
	kindPeerAuthentication: func() client.Object { return &securityv1.PeerAuthentication{} },
	kindDestinationRule:    func() client.Object { return &networkingv1.DestinationRule{} },
	kindService:            func() client.Object { return &corev1.Service{} },
	kindNamespace:          func() client.Object { return &corev1.Namespace{} },
	kindProbe:              func() client.Object { return &api.HTTPSMeshProbe{} },
	kindPod:                func() client.Object { return &corev1.Pod{} },
	kindConfigMap:          func() client.Object { return &corev1.ConfigMap{} },
	kindDeployment:         func() client.Object { return &appsv1.Deployment{} },
	kindStatefulSet:        func() client.Object { return &appsv1.StatefulSet{} },
	kindDaemonSet:          func() client.Object { return &appsv1.DaemonSet{} },
}

// ParseReference reads kind/namespace/name, of a kind that bears on what a path sees.
func ParseReference(text string) (Reference, error) {
	parts := strings.Split(text, "/")
	if len(parts) != 3 {
		return Reference{}, fmt.Errorf("it must be kind/namespace/name, such as peerauthentication/shop/legacy")
	}
	reference := Reference{Kind: strings.ToLower(parts[0]), Namespace: parts[1], Name: parts[2]}
	if newOf[reference.Kind] == nil {
		return Reference{}, fmt.Errorf("kind %s bears on no path; kinds that do: %s", parts[0], strings.Join(slices.Sorted(maps.Keys(newOf)), ", "))
	}
	return reference, nil
}

func referenceTo(object client.Object) Reference {
	return Reference{kindOf(object), object.GetNamespace(), object.GetName()}
}

func kindOf(object client.Object) string {
	switch object.(type) {
	case *api.HTTPSMeshProbe:
		return kindProbe
	case *securityv1.PeerAuthentication:
		return kindPeerAuthentication
	case *networkingv1.DestinationRule:
		return kindDestinationRule
	case *corev1.Service:
		return kindService
	case *corev1.Pod:
		return kindPod
	case *corev1.ConfigMap:
		return kindConfigMap
	case *corev1.Namespace, *metav1.PartialObjectMetadata:
		return kindNamespace
	case *appsv1.Deployment:
		return kindDeployment
	case *appsv1.StatefulSet:
		return kindStatefulSet
	case *appsv1.DaemonSet:
		return kindDaemonSet
	case *discoveryv1.EndpointSlice:
		return kindEndpointSlice
	default:
		return ""
	}
}

func kindOfList(list client.ObjectList) string {
	switch list.(type) {
	case *api.HTTPSMeshProbeList:
		return kindProbe
	case *securityv1.PeerAuthenticationList:
		return kindPeerAuthentication
	case *networkingv1.DestinationRuleList:
		return kindDestinationRule
	case *corev1.ServiceList:
		return kindService
	case *corev1.PodList:
		return kindPod
	case *appsv1.DeploymentList:
		return kindDeployment
	case *discoveryv1.EndpointSliceList:
		return kindEndpointSlice
	default:
		return ""
	}
}
