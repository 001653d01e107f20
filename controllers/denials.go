package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/authz"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/inventory"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
)

// denialsFor is how long what AuthorizationPolicies say is remembered. They are not watched: they are read where a
// connection breaks off as it does under one, or where the spec says that it should.
const denialsFor = 5 * time.Second

// denialMemory holds what was read last for each probe.
type denialMemory struct {
	mu      sync.Mutex
	byProbe map[types.NamespacedName]readDenials
}

type readDenials struct {
	at    time.Time
	words map[api.PathName]string
}

func (m *denialMemory) get(probe types.NamespacedName, now time.Time) (map[api.PathName]string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	read, ok := m.byProbe[probe]
	return read.words, ok && now.Sub(read.at) < denialsFor
}

func (m *denialMemory) put(probe types.NamespacedName, words map[api.PathName]string, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byProbe == nil {
		m.byProbe = map[types.NamespacedName]readDenials{}
	}
	m.byProbe[probe] = readDenials{now, words}
}

func (m *denialMemory) forget(probe types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.byProbe, probe)
}

// denials are the AuthorizationPolicies that do not admit a path's client, in words.
func (r *Reconciler) denials(ctx context.Context, v *visit) (map[api.PathName]string, error) {
	if !r.brokeOff(v) && !expectsDenial(v) {
		return nil, nil
	}
	key := client.ObjectKeyFromObject(v.Probe)
	if words, fresh := r.denied.get(key, r.Now()); fresh {
		return words, nil
	}
	policies, err := inventory.ReadAuthorizationPolicies(ctx, r.Live, v.Target.Namespace, v.Mesh.RootNamespace)
	switch {
	case meta.IsNoMatchError(err), apierrors.IsForbidden(err), apierrors.IsNotFound(err), errors.Is(err, inventory.ErrTooManyPolicies):
		r.denied.put(key, nil, r.Now()) // nothing is known of them, and nothing is said
		return nil, nil
	case err != nil:
		return nil, err
	}
	words := map[api.PathName]string{}
	for _, path := range paths.All() {
		identity := ""
		if path.ThroughMesh {
			identity = r.clientIdentity(v)
		}
		words[path.Name] = deniedAt(v, policies, identity)
	}
	r.denied.put(key, words, r.Now())
	return words, nil
}

// deniedAt names the policies by which one of the endpoints certainly does not admit a client.
func deniedAt(v *visit, policies []authz.Policy, identity string) string {
	var named []string
	for _, endpoint := range v.Target.Endpoints {
		server := authz.Server{Namespace: v.Target.Namespace, Labels: endpoint.Pod.Labels, Port: endpoint.Port}
		for _, denial := range authz.Judge(policies, v.Mesh.RootNamespace, server, identity).Denials {
			if words := fmt.Sprintf("%s (%s)", denial.Object, denial.Why); !slices.Contains(named, words) {
				named = append(named, words)
			}
		}
	}
	return strings.Join(named, " and ")
}

// clientIdentity is the SPIFFE ID by which the client's sidecar is known.
func (r *Reconciler) clientIdentity(v *visit) string {
	return fmt.Sprintf("spiffe://%s/ns/%s/sa/default", r.trustDomain(v), v.Probe.Namespace)
}

// defaultTrustDomain is Istio's (istio.io/istio pkg/config/constants).
const defaultTrustDomain = "cluster.local"

// trustDomain is that of the certificate by which a sidecar answered in the latest run.
func (r *Reconciler) trustDomain(v *visit) string {
	record := r.records.last(v.Probe)
	if record == nil {
		return defaultTrustDomain
	}
	run, _ := record.Latest()
	for _, result := range run.Results {
		for _, seen := range append([]observation.EndpointResult{{Result: result}}, result.Endpoints...) {
			for _, id := range []string{seen.Seen.SPIFFE(), seen.Mesh.Seen.SPIFFE()} {
				if domain, _, ok := strings.Cut(strings.TrimPrefix(id, "spiffe://"), "/"); ok && domain != "" {
					return domain
				}
			}
		}
	}
	return defaultTrustDomain
}

// brokeOff says whether the latest run had a request that broke off before anybody showed a certificate.
func (r *Reconciler) brokeOff(v *visit) bool {
	record := r.records.last(v.Probe)
	if record == nil {
		return false
	}
	run, _ := record.Latest()
	for _, result := range run.Results {
		class := result.Seen.Class
		if class == observation.HandshakeClosed || class == observation.HandshakeReset {
			return true
		}
	}
	return false
}

func expectsDenial(v *visit) bool {
	for _, expected := range v.policies.Declared {
		if expected.Kind == expectation.Denial {
			return true
		}
	}
	return false
}
