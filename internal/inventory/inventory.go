// Package inventory reads from the cluster all that a probe's reconcile looks at, once, before anything is decided.
package inventory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

// Inventory is what the cluster held at one moment, as far as one probe is concerned.
type Inventory struct {
	Probe *api.HTTPSMeshProbe
	// Siblings are the living probes of the namespace, the probe among them.
	Siblings []api.HTTPSMeshProbe
	// IstioInstalled says that the API server knows PeerAuthentication.
	IstioInstalled bool
	// Mesh is Istio's mesh config as far as it matters here; MeshProblem says why it could not be read.
	Mesh        meshpolicy.Mesh
	MeshProblem string
	// MeshForbidden says what of the mesh's configuration the operator may not read; "" where it may read all that counts.
	// What it may not read must not be taken for absent: no policy can be computed then.
	MeshForbidden string
	// PeerAuthentications are those of the target's namespace, the probe's, and Istio's root namespace; DestinationRules
	// likewise.
	PeerAuthentications []meshpolicy.PeerAuthentication
	DestinationRules    []meshpolicy.DestinationRule
	// Target is the Service that is probed, be it the operator's own or somebody's.
	Target Target
	// CA is the PEM text that spec.target.ca names, and Certificate the data of the Secret that spec.target.certificate
	// names; for each, Problem says why it could not be had.
	CA, Certificate Reference
	// Deployments are the operator's in the namespace, by name; Pods are theirs.
	Deployments map[string]*appsv1.Deployment
	Pods        []corev1.Pod
	// MeshRoots are the mesh's root certificates as istiod publishes them in every namespace, in PEM; "" where it does not.
	MeshRoots string
	// ServerConfigMap is nil where it does not exist, or not yet.
	ServerConfigMap *corev1.ConfigMap

	existing map[objectKey]client.Object
	place    Place
}

type objectKey struct{ kind, name string }

// Existing returns the object of a kind and name in the probe's namespace as far as it carries the operator's label,
// else nil.
func (i *Inventory) Existing(kind, name string) client.Object {
	return i.existing[objectKey{kind, name}]
}

// PodsOf returns the pods that carry all the labels.
func (i *Inventory) PodsOf(labels map[string]string) []corev1.Pod {
	var pods []corev1.Pod
	for _, pod := range i.Pods {
		if containsAll(pod.Labels, labels) {
			pods = append(pods, pod)
		}
	}
	return pods
}

// rootConfigMap is where istiod publishes the mesh's root certificates (istio.io/istio pkg/config/constants).
const rootConfigMap = "istio-ca-root-cert"

// Place says where in the cluster what is.
type Place struct {
	// IstioNamespace is where istiod and its mesh config are, and the root namespace unless that config names another.
	IstioNamespace string
	// ClusterDomain is the cluster's DNS domain.
	ClusterDomain string
	// Namespace is the only one that is read, beside Istio's; "" where all are.
	Namespace string
	// IstioUnreadable says which right is lacking in Istio's namespace; "" where none is.
	IstioUnreadable string
}

// Reaches says whether objects in a namespace can be read.
func (p Place) Reaches(namespace string) bool {
	if p.Namespace == "" || namespace == p.Namespace {
		return true
	}
	return namespace == p.IstioNamespace && p.IstioUnreadable == ""
}

// Gather reads the inventory of a probe from the cache, and from live what the cache does not hold because the operator
// has not made it. The error is a NotFound when the probe is gone.
func Gather(ctx context.Context, reader, live client.Reader, key types.NamespacedName, place Place) (*Inventory, error) {
	probe := &api.HTTPSMeshProbe{}
	if err := reader.Get(ctx, key, probe); err != nil {
		return nil, err
	}
	inventory, err := GatherPolicies(ctx, reader, probe, place)
	if err != nil {
		return nil, err
	}
	for _, read := range []func(context.Context, client.Reader) error{inventory.readSiblings, inventory.readServer} {
		if err := read(ctx, reader); err != nil {
			return nil, err
		}
	}
	for _, read := range []func(context.Context, client.Reader) error{inventory.readMeshRoots, inventory.readReferences} {
		if err := read(ctx, live); err != nil {
			return nil, err
		}
	}
	return inventory, nil
}

// GatherPolicies reads of an inventory what policies are computed from: the target with its endpoints, the clients, the
// mesh config and the policies. The probe itself need not be in the cluster.
func GatherPolicies(ctx context.Context, reader client.Reader, probe *api.HTTPSMeshProbe, place Place) (*Inventory, error) {
	inventory := &Inventory{Probe: probe, Deployments: map[string]*appsv1.Deployment{}, existing: map[objectKey]client.Object{}, place: place}
	for _, read := range []func(context.Context, client.Reader) error{inventory.readPods, inventory.readDeployments, inventory.readTarget} {
		if err := read(ctx, reader); err != nil {
			return nil, err
		}
	}
	var err error
	inventory.Mesh, err = ReadMesh(ctx, reader, place, probe.Spec.Revision)
	switch {
	case errors.Is(err, ErrMeshConfig):
		inventory.MeshProblem = err.Error()
	case errors.Is(err, ErrMeshForbidden):
		inventory.MeshForbidden = err.Error()
	case err != nil:
		return nil, err
	}
	return inventory, inventory.readPolicies(ctx, reader)
}

func (i *Inventory) readMeshRoots(ctx context.Context, live client.Reader) error {
	var published corev1.ConfigMap
	err := live.Get(ctx, types.NamespacedName{Namespace: i.Probe.Namespace, Name: rootConfigMap}, &published)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("get ConfigMap %s: %w", rootConfigMap, err)
	}
	i.MeshRoots = published.Data["root-cert.pem"]
	return nil
}

func (i *Inventory) readSiblings(ctx context.Context, reader client.Reader) error {
	var list api.HTTPSMeshProbeList
	if err := reader.List(ctx, &list, client.InNamespace(i.Probe.Namespace)); err != nil {
		return fmt.Errorf("list probes: %w", err)
	}
	for _, probe := range list.Items {
		if probe.DeletionTimestamp == nil {
			i.Siblings = append(i.Siblings, probe)
		}
	}
	// The cache lists in no order, and what is built from the list must come out the same every time.
	slices.SortFunc(i.Siblings, func(a, b api.HTTPSMeshProbe) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

func (i *Inventory) readPods(ctx context.Context, reader client.Reader) error {
	var list corev1.PodList
	if err := reader.List(ctx, &list, client.InNamespace(i.Probe.Namespace), ours()); err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	i.Pods = list.Items
	return nil
}

func (i *Inventory) readDeployments(ctx context.Context, reader client.Reader) error {
	var list appsv1.DeploymentList
	if err := reader.List(ctx, &list, client.InNamespace(i.Probe.Namespace), ours()); err != nil {
		return fmt.Errorf("list deployments: %w", err)
	}
	for _, deployment := range list.Items {
		i.Deployments[deployment.Name] = &deployment
		i.existing[objectKey{"Deployment", deployment.Name}] = &deployment
	}
	return nil
}

func (i *Inventory) readServer(ctx context.Context, reader client.Reader) error {
	key := types.NamespacedName{Namespace: i.Probe.Namespace, Name: fixture.ServerName(i.Probe.Name)}
	for kind, object := range map[string]client.Object{
		"ConfigMap": &corev1.ConfigMap{}, "ServiceAccount": &corev1.ServiceAccount{}, "Service": &corev1.Service{},
	} {
		err := reader.Get(ctx, key, object)
		switch {
		case apierrors.IsNotFound(err):
			continue
		case err != nil:
			return fmt.Errorf("get %s %s: %w", kind, key.Name, err)
		}
		i.existing[objectKey{kind, key.Name}] = object
		if configMap, ok := object.(*corev1.ConfigMap); ok {
			i.ServerConfigMap = configMap
		}
	}
	return nil
}

func ours() client.MatchingLabels {
	return client.MatchingLabels{fixture.LabelManagedBy: fixture.ManagedBy}
}

func containsAll(have, want map[string]string) bool {
	for key, value := range want {
		if have[key] != value {
			return false
		}
	}
	return true
}
