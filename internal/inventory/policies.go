package inventory

import (
	"context"
	"errors"
	"fmt"
	"slices"

	securityapi "istio.io/api/security/v1beta1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

// meshConfig is what matters of Istio's MeshConfig (istio.io/api mesh/v1alpha1).
type meshConfig struct {
	RootNamespace                  string   `json:"rootNamespace"`
	EnableAutoMTLS                 *bool    `json:"enableAutoMtls"`
	DefaultDestinationRuleExportTo []string `json:"defaultDestinationRuleExportTo"`
	DefaultServiceExportTo         []string `json:"defaultServiceExportTo"`
}

var (
	// ErrMeshConfig says that the mesh config is there and makes no sense.
	ErrMeshConfig = errors.New("the mesh config cannot be read")
	// ErrMeshForbidden says that the operator may not read the mesh config, or the policies of the mesh's root namespace.
	ErrMeshForbidden = errors.New("what the mesh's policies are computed from cannot be read")
)

// ReadMesh reads the mesh config of a revision where istiod reads it: in the ConfigMap istio, or istio-REVISION. Where
// there is none, Istio's defaults hold.
func ReadMesh(ctx context.Context, reader client.Reader, place Place, revision string) (meshpolicy.Mesh, error) {
	mesh := meshpolicy.Mesh{RootNamespace: place.IstioNamespace, AutoMTLS: true, ClusterDomain: place.ClusterDomain}
	if !place.Reaches(place.IstioNamespace) {
		return mesh, fmt.Errorf("%w: %s", ErrMeshForbidden, place.IstioUnreadable)
	}
	names := []string{"istio"}
	if revision != "" && revision != "default" {
		// A revision tag has no mesh config of its own name.
		names = []string{"istio-" + revision, "istio"}
	}
	for _, name := range names {
		var published corev1.ConfigMap
		err := reader.Get(ctx, types.NamespacedName{Namespace: place.IstioNamespace, Name: name}, &published)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return mesh, fmt.Errorf("get ConfigMap %s/%s: %w", place.IstioNamespace, name, err)
		}
		var config meshConfig
		if err := yaml.Unmarshal([]byte(published.Data["mesh"]), &config); err != nil {
			return mesh, fmt.Errorf("%w: entry mesh of ConfigMap %s/%s: %w", ErrMeshConfig, place.IstioNamespace, name, err)
		}
		config.into(&mesh)
		break
	}
	if !place.Reaches(mesh.RootNamespace) {
		return mesh, fmt.Errorf("%w: the mesh config makes %s the root namespace, and the operator reads namespaces %s and %s alone: install it for the whole cluster",
			ErrMeshForbidden, mesh.RootNamespace, place.Namespace, place.IstioNamespace)
	}
	return mesh, nil
}

func (c meshConfig) into(mesh *meshpolicy.Mesh) {
	if c.RootNamespace != "" {
		mesh.RootNamespace = c.RootNamespace
	}
	if c.EnableAutoMTLS != nil {
		mesh.AutoMTLS = *c.EnableAutoMTLS
	}
	mesh.DestinationRuleExportTo, mesh.ServiceExportTo = c.DefaultDestinationRuleExportTo, c.DefaultServiceExportTo
}

// readPolicies finds out on the way whether Istio is there at all: its kinds may appear while the operator runs.
func (i *Inventory) readPolicies(ctx context.Context, reader client.Reader) error {
	namespaces := []string{i.Probe.Namespace, i.Target.Namespace, i.Mesh.RootNamespace}
	namespaces = slices.DeleteFunc(namespaces, func(namespace string) bool { return !i.place.Reaches(namespace) })
	slices.Sort(namespaces)
	for _, namespace := range slices.Compact(namespaces) {
		for _, read := range []func(context.Context, client.Reader, string) error{i.readPeerAuthentications, i.readDestinationRules} {
			err := read(ctx, reader, namespace)
			if meta.IsNoMatchError(err) {
				return nil
			}
			if err != nil {
				return err
			}
		}
	}
	i.IstioInstalled = true
	return nil
}

func (i *Inventory) readPeerAuthentications(ctx context.Context, reader client.Reader, namespace string) error {
	var list securityv1.PeerAuthenticationList
	if err := reader.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return fmt.Errorf("list peerauthentications: %w", err)
	}
	for _, policy := range list.Items {
		i.PeerAuthentications = append(i.PeerAuthentications, peerAuthentication(policy))
		if policy.Namespace == i.Probe.Namespace {
			i.existing[objectKey{"PeerAuthentication", policy.Name}] = policy
		}
	}
	return nil
}

func (i *Inventory) readDestinationRules(ctx context.Context, reader client.Reader, namespace string) error {
	var list networkingv1.DestinationRuleList
	if err := reader.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return fmt.Errorf("list destinationrules: %w", err)
	}
	for _, rule := range list.Items {
		i.DestinationRules = append(i.DestinationRules, destinationRule(rule))
		if rule.Namespace == i.Probe.Namespace {
			i.existing[objectKey{"DestinationRule", rule.Name}] = rule
		}
	}
	return nil
}

func peerAuthentication(policy *securityv1.PeerAuthentication) meshpolicy.PeerAuthentication {
	ports := map[uint32]api.MTLSMode{}
	for port, mtls := range policy.Spec.GetPortLevelMtls() {
		ports[port] = mode(mtls)
	}
	return meshpolicy.PeerAuthentication{
		Namespace: policy.Namespace, Name: policy.Name, Created: policy.CreationTimestamp.Time,
		Selector: policy.Spec.GetSelector().GetMatchLabels(), Mode: mode(policy.Spec.GetMtls()), PortModes: ports,
	}
}

func mode(mtls *securityapi.PeerAuthentication_MutualTLS) api.MTLSMode {
	return api.MTLSMode(mtls.GetMode().String())
}
