package inventory

import (
	"maps"
	"reflect"
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

var created = time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
}

func TestPeerAuthenticationIsTakenWhole(t *testing.T) {
	for name, test := range map[string]struct {
		spec string
		want meshpolicy.PeerAuthentication
	}{
		"nothing set": {`{}`, meshpolicy.PeerAuthentication{Mode: api.MTLSUnset}},
		"mode alone":  {`{mtls: {mode: STRICT}}`, meshpolicy.PeerAuthentication{Mode: api.MTLSStrict}},
		"empty mtls":  {`{mtls: {}}`, meshpolicy.PeerAuthentication{Mode: api.MTLSUnset}},
		"ports and selector": {
			`{selector: {matchLabels: {app: shop}}, mtls: {mode: PERMISSIVE}, portLevelMtls: {8443: {mode: DISABLE}, 9443: {}}}`,
			meshpolicy.PeerAuthentication{
				Selector: map[string]string{"app": "shop"}, Mode: api.MTLSPermissive,
				PortModes: map[uint32]api.MTLSMode{8443: api.MTLSDisable, 9443: api.MTLSUnset},
			},
		},
		"empty selector": {`{selector: {}, mtls: {mode: DISABLE}}`, meshpolicy.PeerAuthentication{Mode: api.MTLSDisable}},
	} {
		policy := &securityv1.PeerAuthentication{}
		decode(t, `{metadata: {namespace: shop, name: default}, spec: `+test.spec+`}`, policy)
		policy.CreationTimestamp = metav1.NewTime(created)
		test.want.Namespace, test.want.Name, test.want.Created = "shop", "default", created
		got := peerAuthentication(policy)
		if !maps.Equal(got.PortModes, test.want.PortModes) || !maps.Equal(got.Selector, test.want.Selector) {
			t.Errorf("%s: got %+v, want %+v", name, got, test.want)
		}
		got.PortModes, got.Selector, test.want.PortModes, test.want.Selector = nil, nil, nil, nil
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, test.want)
		}
	}
}

func TestDestinationRuleIsTakenWhole(t *testing.T) {
	mutual := &meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSIstioMutual}
	disable := &meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSDisable}
	for name, test := range map[string]struct {
		spec string
		want meshpolicy.DestinationRule
	}{
		"no policy":      {`{host: web}`, meshpolicy.DestinationRule{Host: "web"}},
		"policy, no TLS": {`{host: web, trafficPolicy: {}}`, meshpolicy.DestinationRule{Host: "web", HasTrafficPolicy: true}},
		"TLS": {
			`{host: web, exportTo: [".", other], trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}`,
			meshpolicy.DestinationRule{Host: "web", ExportTo: []string{".", "other"}, HasTrafficPolicy: true, TLS: mutual},
		},
		"TLS without mode is DISABLE": {
			`{host: web, trafficPolicy: {tls: {}}}`, meshpolicy.DestinationRule{Host: "web", HasTrafficPolicy: true, TLS: disable},
		},
		"a certificate of its own": {
			`{host: web, trafficPolicy: {tls: {mode: MUTUAL, credentialName: c, clientCertificate: d, privateKey: e}}}`,
			meshpolicy.DestinationRule{Host: "web", HasTrafficPolicy: true, TLS: &meshpolicy.ClientTLS{
				Mode: meshpolicy.ClientTLSMutual, CredentialName: "c", ClientCertificate: "d", PrivateKey: "e",
			}},
		},
		"pass-through": {
			`{host: web, trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}}`,
			meshpolicy.DestinationRule{Host: "web", HasTrafficPolicy: true, Passthrough: true},
		},
		"another load balancer": {
			`{host: web, trafficPolicy: {loadBalancer: {simple: RANDOM}}}`, meshpolicy.DestinationRule{Host: "web", HasTrafficPolicy: true},
		},
		"ports, of which the first entry counts": {
			`{host: web, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}, portLevelSettings: [
				{port: {number: 443}, tls: {mode: DISABLE}}, {port: {number: 443}, tls: {mode: ISTIO_MUTUAL}},
				{port: {number: 444}, loadBalancer: {simple: PASSTHROUGH}}]}}`,
			meshpolicy.DestinationRule{
				Host: "web", HasTrafficPolicy: true, TLS: mutual,
				PortTLS: map[uint32]*meshpolicy.ClientTLS{443: disable, 444: nil}, PortPassthrough: map[uint32]bool{443: false, 444: true},
			},
		},
		"for some clients": {
			`{host: web, workloadSelector: {matchLabels: {app: sleep}}}`,
			meshpolicy.DestinationRule{Host: "web", WorkloadSelector: map[string]string{"app": "sleep"}},
		},
		"an empty selector is one": {
			`{host: web, workloadSelector: {}}`, meshpolicy.DestinationRule{Host: "web", WorkloadSelector: map[string]string{}},
		},
	} {
		rule := &networkingv1.DestinationRule{}
		decode(t, `{metadata: {namespace: shop, name: web}, spec: `+test.spec+`}`, rule)
		rule.CreationTimestamp = metav1.NewTime(created)
		test.want.Namespace, test.want.Name, test.want.Created = "shop", "web", created
		if test.want.PortTLS == nil {
			test.want.PortTLS, test.want.PortPassthrough = map[uint32]*meshpolicy.ClientTLS{}, map[uint32]bool{}
		}
		if got := destinationRule(rule); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, test.want)
		}
	}
}

func TestMeshConfigGoesOverTheDefaults(t *testing.T) {
	defaults := meshpolicy.Mesh{RootNamespace: "istio-system", AutoMTLS: true, ClusterDomain: "cluster.local"}
	for name, test := range map[string]struct {
		config string
		want   func(*meshpolicy.Mesh)
	}{
		"says nothing":           {`accessLogFile: /dev/stdout`, func(*meshpolicy.Mesh) {}},
		"another root":           {`rootNamespace: mesh`, func(m *meshpolicy.Mesh) { m.RootNamespace = "mesh" }},
		"no auto mTLS":           {`enableAutoMtls: false`, func(m *meshpolicy.Mesh) { m.AutoMTLS = false }},
		"auto mTLS all the same": {`enableAutoMtls: true`, func(*meshpolicy.Mesh) {}},
		"exports": {
			`{defaultDestinationRuleExportTo: ["."], defaultServiceExportTo: ["~"]}`,
			func(m *meshpolicy.Mesh) { m.DestinationRuleExportTo, m.ServiceExportTo = []string{"."}, []string{"~"} },
		},
	} {
		var config meshConfig
		decode(t, test.config, &config)
		got, want := defaults, defaults
		config.into(&got)
		test.want(&want)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}
