package effective_test

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/effective"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

// computed is the policy before an endpoint, as an object sets it.
func computed(capture meshpolicy.Capture, mode api.MTLSMode, by string) meshpolicy.Server {
	server := meshpolicy.Server{Mode: mode, Scope: meshpolicy.ScopeDefault, Capture: capture}
	if capture == meshpolicy.PortExcluded {
		server.Past = "an argument"
	}
	if by != "" {
		server.Scope, server.Decider = meshpolicy.ScopeNamespace, &meshpolicy.PeerAuthentication{Namespace: "shop", Name: by}
	}
	return server
}

// of is the policy before an endpoint, as an object of its own sets it at a level.
func of(scope meshpolicy.Scope, mode api.MTLSMode) meshpolicy.Server {
	return meshpolicy.Server{Mode: mode, Scope: scope, Decider: &meshpolicy.PeerAuthentication{Namespace: "shop", Name: "own"}, Capture: meshpolicy.Captured}
}

// sending is the endpoints with one client policy for all; they are named shop-0, shop-1 and so on.
func sending(sends meshpolicy.Sends, why string, servers ...meshpolicy.Server) []effective.EndpointPolicy {
	endpoints := make([]effective.EndpointPolicy, 0, len(servers))
	for i, server := range servers {
		endpoints = append(endpoints, effective.EndpointPolicy{
			Name: fmt.Sprintf("shop-%d", i), Server: server, Client: meshpolicy.ClientPolicy{Sends: sends, Why: why},
		})
	}
	return endpoints
}

func mutual(servers ...meshpolicy.Server) []effective.EndpointPolicy {
	return sending(meshpolicy.MutualTLS, "auto mTLS finds it ready", servers...)
}

var (
	strictByDefault     = computed(meshpolicy.Captured, api.MTLSStrict, "default")
	permissiveByLegacy  = computed(meshpolicy.Captured, api.MTLSPermissive, "legacy")
	permissiveByNothing = computed(meshpolicy.Captured, api.MTLSPermissive, "")
	disabledByDefault   = computed(meshpolicy.Captured, api.MTLSDisable, "default")
	strictExcluded      = computed(meshpolicy.PortExcluded, api.MTLSStrict, "default")
	disabledExcluded    = computed(meshpolicy.PortExcluded, api.MTLSDisable, "default")
	strictGateway       = computed(meshpolicy.NoRedirection, api.MTLSStrict, "default")
	strictBare          = computed(meshpolicy.NoSidecar, api.MTLSStrict, "default")
	strictOnHost        = computed(meshpolicy.HostNetwork, api.MTLSStrict, "default")
	strictAmbient       = computed(meshpolicy.Ambient, api.MTLSStrict, "default")
)

var policies = map[string]struct {
	sidecar   api.Sidecar
	declared  api.MTLSMode
	client    api.ClientTLSMode
	endpoints []effective.EndpointPolicy
	status    metav1.ConditionStatus
	reason    string
	says      []string
}{
	"as declared": {api.SidecarEnabled, api.MTLSPermissive, "", mutual(permissiveByLegacy), metav1.ConditionTrue, api.ReasonInEffect,
		[]string{"PeerAuthentication shop/legacy (namespace level) sets PERMISSIVE"}},
	"as declared, by Istio's default": {api.SidecarEnabled, api.MTLSPermissive, api.ClientTLSUnset, mutual(permissiveByNothing), metav1.ConditionTrue, api.ReasonInEffect,
		[]string{"default"}},
	"as declared on every endpoint": {api.SidecarEnabled, api.MTLSStrict, "", mutual(strictByDefault, strictByDefault, strictByDefault), metav1.ConditionTrue, api.ReasonInEffect,
		[]string{"shop/default"}},
	"inherited": {api.SidecarEnabled, api.MTLSUnset, "", mutual(permissiveByLegacy), metav1.ConditionTrue, api.ReasonInherited, []string{"shop/legacy"}},
	"inherited, left out of the spec": {api.SidecarEnabled, "", "", mutual(strictByDefault, strictByDefault), metav1.ConditionTrue, api.ReasonInherited,
		[]string{"shop/default"}},
	"no sidecar":              {api.SidecarDisabled, api.MTLSUnset, "", mutual(strictBare), metav1.ConditionTrue, api.ReasonNoSidecar, []string{"no sidecar"}},
	"no sidecar, and DISABLE": {api.SidecarDisabled, api.MTLSDisable, "", mutual(strictBare, strictOnHost), metav1.ConditionTrue, api.ReasonNoSidecar, []string{"no sidecar"}},

	"a workload's own mode": {api.SidecarEnabled, api.MTLSUnset, "", mutual(of(meshpolicy.ScopeWorkload, api.MTLSDisable)), metav1.ConditionFalse, api.ReasonOverridden,
		[]string{"mtls.mode is UNSET, which inherits; but PeerAuthentication shop/own (workload level) sets DISABLE"}},
	"a workload's own mode, and nothing claimed": {api.SidecarEnabled, "", "", mutual(of(meshpolicy.ScopeWorkload, api.MTLSStrict)), metav1.ConditionTrue, api.ReasonInherited, nil},
	"a workload's own mode, another than the rest's": {api.SidecarEnabled, api.MTLSUnset, "", mutual(strictByDefault, of(meshpolicy.ScopeWorkload, api.MTLSDisable)), metav1.ConditionFalse, api.ReasonMixed,
		[]string{"PeerAuthentication shop/own (workload level) sets DISABLE"}},
	"a port's own mode": {api.SidecarEnabled, api.MTLSUnset, "", mutual(of(meshpolicy.ScopePort, api.MTLSStrict)), metav1.ConditionFalse, api.ReasonOverridden,
		[]string{"PeerAuthentication shop/own (port level) sets STRICT"}},
	"one of two has its own mode": {api.SidecarEnabled, api.MTLSUnset, "", mutual(strictByDefault, of(meshpolicy.ScopeWorkload, api.MTLSStrict)), metav1.ConditionFalse, api.ReasonOverridden,
		[]string{"which inherits; but for shop-1 (1 of 2 endpoints) PeerAuthentication shop/own"}},
	"a workload's own mode, as declared": {api.SidecarEnabled, api.MTLSDisable, "", mutual(of(meshpolicy.ScopeWorkload, api.MTLSDisable)), metav1.ConditionTrue, api.ReasonInEffect, nil},
	"of the mesh":                        {api.SidecarEnabled, api.MTLSUnset, "", mutual(of(meshpolicy.ScopeMesh, api.MTLSStrict)), metav1.ConditionTrue, api.ReasonInherited, nil},
	"no sidecar, whatever the pods' own mode": {api.SidecarDisabled, api.MTLSUnset, "", mutual(meshpolicy.Server{Mode: api.MTLSStrict, Scope: meshpolicy.ScopeWorkload,
		Decider: &meshpolicy.PeerAuthentication{Namespace: "shop", Name: "own"}, Capture: meshpolicy.NoSidecar}), metav1.ConditionTrue, api.ReasonNoSidecar, nil},

	"overridden": {api.SidecarEnabled, api.MTLSStrict, "", mutual(permissiveByLegacy), metav1.ConditionFalse, api.ReasonOverridden,
		[]string{"mtls.mode is STRICT, but PeerAuthentication shop/legacy (namespace level) sets PERMISSIVE"}},
	"stricter than declared": {api.SidecarEnabled, api.MTLSDisable, "", mutual(strictByDefault), metav1.ConditionFalse, api.ReasonOverridden,
		[]string{"mtls.mode is DISABLE, but PeerAuthentication shop/default"}},
	"nothing sets it": {api.SidecarEnabled, api.MTLSStrict, "", mutual(permissiveByNothing), metav1.ConditionFalse, api.ReasonOverridden,
		[]string{"no PeerAuthentication sets a mode"}},
	"overridden on one of three": {api.SidecarEnabled, api.MTLSStrict, "", mutual(strictByDefault, permissiveByLegacy, strictByDefault), metav1.ConditionFalse, api.ReasonOverridden,
		[]string{"mtls.mode is STRICT, but for shop-1 (1 of 3 endpoints) PeerAuthentication shop/legacy"}},
	"overridden on all of two": {api.SidecarEnabled, api.MTLSStrict, "", mutual(permissiveByLegacy, permissiveByLegacy), metav1.ConditionFalse, api.ReasonOverridden,
		[]string{"mtls.mode is STRICT, but PeerAuthentication shop/legacy"}},
	"mixed": {api.SidecarEnabled, api.MTLSUnset, "", mutual(strictByDefault, strictByDefault, permissiveByLegacy), metav1.ConditionFalse, api.ReasonMixed,
		[]string{"for shop-0 PeerAuthentication shop/default", "for shop-2 PeerAuthentication shop/legacy"}},
	"mixed objects of one mode": {api.SidecarEnabled, api.MTLSUnset, "", mutual(permissiveByNothing, permissiveByLegacy), metav1.ConditionTrue, api.ReasonInherited, nil},

	"one without sidecar": {api.SidecarEnabled, api.MTLSStrict, "", mutual(strictByDefault, strictBare, strictByDefault), metav1.ConditionFalse, api.ReasonSidecarMissing,
		[]string{"target.sidecar is Enabled, but there is none in shop-1 (1 of 3 endpoints)"}},
	"the only one without sidecar": {api.SidecarEnabled, api.MTLSUnset, "", mutual(strictBare), metav1.ConditionFalse, api.ReasonSidecarMissing, []string{"there is none in shop-0"}},
	"on the host's network": {api.SidecarEnabled, api.MTLSDisable, "", mutual(strictOnHost), metav1.ConditionFalse, api.ReasonSidecarMissing,
		[]string{"there is none in shop-0", "the node's own network"}},
	"many without sidecar": {api.SidecarEnabled, api.MTLSStrict, "", mutual(strictBare, strictBare, strictBare, strictBare, strictByDefault), metav1.ConditionFalse, api.ReasonSidecarMissing,
		[]string{"shop-0, shop-1, shop-2, … (4 of 5 endpoints)"}},
	"one with sidecar": {api.SidecarDisabled, api.MTLSUnset, "", mutual(strictBare, permissiveByLegacy), metav1.ConditionFalse, api.ReasonSidecarPresent,
		[]string{"target.sidecar is Disabled, but there is one in shop-1 (1 of 2 endpoints)"}},
	"one with sidecar that looks away": {api.SidecarDisabled, api.MTLSDisable, "", mutual(strictExcluded), metav1.ConditionFalse, api.ReasonSidecarPresent, []string{"shop-0"}},

	"past the sidecar": {api.SidecarEnabled, api.MTLSStrict, "", mutual(strictByDefault, strictExcluded), metav1.ConditionFalse, api.ReasonNotCaptured,
		[]string{"shop-1 (1 of 2 endpoints)", "an argument leads its port past the sidecar"}},
	"past the sidecar, PERMISSIVE":        {api.SidecarEnabled, api.MTLSPermissive, "", mutual(strictExcluded), metav1.ConditionFalse, api.ReasonNotCaptured, []string{"past the sidecar"}},
	"past the sidecar, inherited":         {api.SidecarEnabled, api.MTLSUnset, "", mutual(strictExcluded), metav1.ConditionFalse, api.ReasonNotCaptured, nil},
	"past the sidecar, both DISABLE":      {api.SidecarEnabled, api.MTLSUnset, "", mutual(disabledExcluded), metav1.ConditionTrue, api.ReasonInherited, nil},
	"past the sidecar as good as DISABLE": {api.SidecarEnabled, api.MTLSDisable, "", mutual(strictExcluded, disabledByDefault), metav1.ConditionTrue, api.ReasonInEffect, nil},

	"a gateway": {api.SidecarEnabled, api.MTLSStrict, "", mutual(strictByDefault, strictGateway), metav1.ConditionFalse, api.ReasonNotCaptured,
		[]string{"shop-1 (1 of 2 endpoints)", "no traffic is redirected to the pod's proxy, as in a gateway"}},
	"a gateway, DISABLE":            {api.SidecarEnabled, api.MTLSDisable, "", mutual(strictGateway), metav1.ConditionFalse, api.ReasonNotCaptured, []string{"as in a gateway"}},
	"a gateway, inherited":          {api.SidecarEnabled, api.MTLSUnset, "", mutual(strictGateway), metav1.ConditionFalse, api.ReasonNotCaptured, nil},
	"a gateway, no sidecar claimed": {api.SidecarDisabled, api.MTLSUnset, "", mutual(strictGateway), metav1.ConditionTrue, api.ReasonNoSidecar, nil},

	"client as declared": {api.SidecarEnabled, api.MTLSStrict, api.ClientTLSIstioMutual, mutual(strictByDefault), metav1.ConditionTrue, api.ReasonInEffect, nil},
	"client overridden": {api.SidecarEnabled, api.MTLSPermissive, api.ClientTLSIstioMutual,
		sending(meshpolicy.Plaintext, "DestinationRule shop/legacy sets DISABLE", permissiveByLegacy), metav1.ConditionFalse, api.ReasonOverridden,
		[]string{"mtls.clientMode is ISTIO_MUTUAL, but the client's sidecar sends Plaintext: DestinationRule shop/legacy sets DISABLE"}},
	"auto mTLS overridden": {api.SidecarEnabled, api.MTLSPermissive, api.ClientTLSUnset,
		sending(meshpolicy.Plaintext, "DestinationRule shop/legacy sets DISABLE", permissiveByLegacy), metav1.ConditionFalse, api.ReasonOverridden,
		[]string{"promises mutual TLS where the server takes it, but the client's sidecar sends Plaintext: DestinationRule shop/legacy sets DISABLE"}},
	"auto mTLS trapped, inherited": {api.SidecarEnabled, api.MTLSUnset, "",
		sending(meshpolicy.Plaintext, "PeerAuthentication shop/default (namespace level) sets DISABLE", strictByDefault), metav1.ConditionFalse, api.ReasonOverridden,
		[]string{"PeerAuthentication shop/default (namespace level) sets DISABLE"}},
	"client wraps more than declared": {api.SidecarEnabled, api.MTLSPermissive, api.ClientTLSDisable, mutual(permissiveByLegacy), metav1.ConditionFalse, api.ReasonOverridden,
		[]string{"mtls.clientMode is DISABLE, but the client's sidecar sends MutualTLS"}},
	"client of a server without sidecar": {api.SidecarDisabled, api.MTLSUnset, api.ClientTLSSimple,
		sending(meshpolicy.Plaintext, "auto mTLS finds no label", strictBare), metav1.ConditionFalse, api.ReasonOverridden, []string{"mtls.clientMode is SIMPLE"}},
	"client of a server without sidecar, as declared": {api.SidecarDisabled, api.MTLSUnset, api.ClientTLSSimple,
		sending(meshpolicy.SimpleTLS, "DestinationRule shop/a sets SIMPLE", strictBare), metav1.ConditionTrue, api.ReasonNoSidecar, nil},

	"ambient": {api.SidecarEnabled, api.MTLSStrict, "", mutual(strictByDefault, strictAmbient), metav1.ConditionUnknown, api.ReasonAmbientNotJudged,
		[]string{"shop-1 (1 of 2 endpoints)", "ztunnel"}},
	"ambient and no sidecar wanted": {api.SidecarDisabled, api.MTLSUnset, "", mutual(strictAmbient), metav1.ConditionUnknown, api.ReasonAmbientNotJudged, []string{"shop-0 in the ambient mesh"}},
	// What is not judged makes no other finding certain.
	"ambient beside one without sidecar": {api.SidecarEnabled, api.MTLSStrict, "", mutual(strictBare, strictAmbient), metav1.ConditionUnknown, api.ReasonAmbientNotJudged, nil},
}

func TestPolicyInEffect(t *testing.T) {
	for name, c := range policies {
		t.Run(name, func(t *testing.T) {
			got := effective.PolicyInEffect(api.Target{Sidecar: c.sidecar}, api.MTLS{Mode: c.declared, ClientMode: c.client}, c.endpoints)
			if got.Status != c.status || got.Reason != c.reason {
				t.Errorf("%s %s (%s), want %s %s", got.Status, got.Reason, got.Message, c.status, c.reason)
			}
			for _, part := range c.says {
				if !strings.Contains(got.Message, part) {
					t.Errorf("message %q lacks %q", got.Message, part)
				}
			}
			if strings.Contains(got.Message, "of 1 endpoints") {
				t.Errorf("a single endpoint is counted: %s", got.Message)
			}
		})
	}
}

// True needs every endpoint to be as declared, in whatever order they come.
func TestOneEndpointIsEnoughToRefuteThePolicy(t *testing.T) {
	for _, odd := range []meshpolicy.Server{permissiveByLegacy, disabledByDefault, strictExcluded, strictGateway, strictBare, strictOnHost, strictAmbient} {
		for place := range 5 {
			servers := []meshpolicy.Server{strictByDefault, strictByDefault, strictByDefault, strictByDefault, strictByDefault}
			servers[place] = odd
			got := effective.PolicyInEffect(api.Target{Sidecar: api.SidecarEnabled}, api.MTLS{Mode: api.MTLSStrict}, mutual(servers...))
			if got.Status == metav1.ConditionTrue || !strings.Contains(got.Message, fmt.Sprintf("shop-%d (1 of 5 endpoints)", place)) {
				t.Errorf("%s %s at place %d: %s %s", odd.Capture, odd.Mode, place, got.Status, got.Message)
			}
		}
	}
	endpoints := mutual(strictByDefault, strictByDefault, strictByDefault)
	endpoints[2].Client.Sends = meshpolicy.Plaintext
	got := effective.PolicyInEffect(api.Target{Sidecar: api.SidecarEnabled}, api.MTLS{Mode: api.MTLSStrict, ClientMode: api.ClientTLSIstioMutual}, endpoints)
	if got.Status != metav1.ConditionFalse || got.Reason != api.ReasonOverridden {
		t.Errorf("one client policy differs: %s %s", got.Status, got.Message)
	}
}
