package oracle

import (
	"math/rand/v2"
	"time"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

// now is when the youngest objects were made. Ages are few, so that many are equal, and full seconds, as in Kubernetes.
var now = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

func age(created time.Time) int { return int(now.Sub(created) / time.Second) }

// dice makes random sets. Its alphabets are small, so that objects get into each other's way.
type dice struct{ *rand.Rand }

// roll returns the dice for one set of a seed, so that each can be made again alone.
func roll(seed, number uint64) dice { return dice{rand.New(rand.NewPCG(seed, number))} }

func one[T any](d dice, of ...T) T { return of[d.IntN(len(of))] }

func (d dice) oneIn(n int) bool { return d.IntN(n) == 0 }

func (d dice) namespace() string {
	return one(d, "shop", "shop", "shop", "other", "other", root, root, anotherRoot)
}

func (d dice) created() time.Time { return now.Add(-time.Duration(d.IntN(3)) * time.Second) }

// names are handed out once, as the API server does.
type names map[string]bool

func (n names) fresh(d dice, namespace string) string {
	for {
		name := one(d, "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l")
		if key := namespace + "/" + name; !n[key] {
			n[key] = true
			return name
		}
	}
}

func (d dice) policies(most int) []meshpolicy.PeerAuthentication {
	taken := names{}
	var made []meshpolicy.PeerAuthentication
	for range d.IntN(most + 1) {
		namespace := d.namespace()
		policy := meshpolicy.PeerAuthentication{
			Namespace: namespace, Name: taken.fresh(d, namespace), Created: d.created(), Mode: d.mode(), Selector: d.podSelector(),
		}
		for _, port := range []uint32{8443, 9090} {
			if d.oneIn(3) {
				if policy.PortModes == nil {
					policy.PortModes = map[uint32]api.MTLSMode{}
				}
				policy.PortModes[port] = d.mode()
			}
		}
		made = append(made, policy)
	}
	return made
}

func (d dice) mode() api.MTLSMode {
	return one(d, "", api.MTLSUnset, api.MTLSDisable, api.MTLSPermissive, api.MTLSStrict)
}

func (d dice) podSelector() map[string]string {
	return one(d, nil, nil, map[string]string{}, map[string]string{"app": "web"}, map[string]string{"tier": "web"},
		map[string]string{"app": "web", "tier": "web"}, map[string]string{"app": "ready"}, map[string]string{"tier": ""})
}

func (d dice) mesh() meshpolicy.Mesh {
	return meshpolicy.Mesh{
		AutoMTLS:                !d.oneIn(12),
		RootNamespace:           one(d, "", root, root, anotherRoot),
		DestinationRuleExportTo: one(d, nil, nil, nil, []string{"*"}, []string{"."}, []string{"other"}),
		ServiceExportTo:         one(d, nil, nil, nil, nil, nil, nil, nil, []string{"*"}, []string{"."}, []string{"other"}, []string{"~"}),
	}
}

// rules are mostly for a few hosts and in a few namespaces, so that they have to be merged.
func (d dice) rules(most int) []meshpolicy.DestinationRule {
	taken := names{}
	hosts, namespaces := []string{d.host(), d.host(), d.host()}, []string{d.namespace(), d.namespace()}
	var made []meshpolicy.DestinationRule
	for range d.IntN(most + 1) {
		namespace, host := one(d, namespaces...), one(d, hosts...)
		if d.oneIn(5) {
			namespace, host = d.namespace(), d.host()
		}
		rule := meshpolicy.DestinationRule{
			Namespace: namespace, Name: taken.fresh(d, namespace), Created: d.created(), Host: host, ExportTo: d.exportTo(),
			WorkloadSelector: d.clientSelector(),
		}
		if rule.HasTrafficPolicy = !d.oneIn(6); rule.HasTrafficPolicy {
			d.trafficPolicy(&rule)
		}
		made = append(made, rule)
	}
	return made
}

func (d dice) host() string {
	return one(d,
		"web", "web", "web.shop.svc.cluster.local", "web.shop.svc.cluster.local", "web.shop.svc.cluster.local", "web.shop",
		"ready.shop.svc.cluster.local", "mixed.shop.svc.cluster.local", "custom.shop.svc.cluster.local", "shared.shop.svc.cluster.local",
		"web.other.svc.cluster.local", "web.istio-system.svc.cluster.local",
		"*", "*.local", "*.cluster.local", "*.svc.cluster.local", "*.shop.svc.cluster.local", "*b.shop.svc.cluster.local", "*.other.svc.cluster.local",
		"*web.shop.svc.cluster.local", "*.shop", "10.2.0.1", "::1", "*.web.shop.svc.cluster.local")
}

func (d dice) exportTo() []string {
	return one(d, nil, nil, nil, nil, []string{"*"}, []string{"*"}, []string{"."}, []string{"."}, []string{"shop"}, []string{"other"},
		[]string{"other", "shop"}, []string{"shop", "other"}, []string{".", "other"}, []string{root}, []string{"~"}, []string{"third"}, []string{".", "."})
}

func (d dice) clientSelector() map[string]string {
	return one(d, nil, nil, nil, nil, nil, nil, map[string]string{"app": "sleep"}, map[string]string{"app": "sleep"},
		map[string]string{"app": "curl"}, map[string]string{"app": "curl", "tier": "web"}, map[string]string{})
}

func (d dice) trafficPolicy(rule *meshpolicy.DestinationRule) {
	rule.TLS = d.tls()
	rule.Passthrough = d.oneIn(8)
	for _, port := range ports {
		if d.oneIn(4) {
			if rule.PortTLS == nil {
				rule.PortTLS, rule.PortPassthrough = map[uint32]*meshpolicy.ClientTLS{}, map[uint32]bool{}
			}
			rule.PortTLS[port.port] = d.tls()
			rule.PortPassthrough[port.port] = d.oneIn(6)
		}
	}
}

func (d dice) tls() *meshpolicy.ClientTLS {
	const certificate, key = "/etc/certs/client.pem", "/etc/certs/key.pem"
	if d.oneIn(3) {
		return nil
	}
	tls := one(d,
		meshpolicy.ClientTLS{},
		meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSDisable},
		meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSIstioMutual},
		meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSIstioMutual},
		meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSSimple},
		meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSSimple, CredentialName: "credential"},
		meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSSimple, CredentialName: "configmap://roots"},
		meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSMutual, ClientCertificate: certificate, PrivateKey: key},
		meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSMutual, ClientCertificate: certificate},
		meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSMutual, CredentialName: "credential"},
		meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSMutual, CredentialName: "configmap://roots"},
	)
	return &tls
}
