package verdict

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

// Policy is the verdict on the declared modes against those that Istio computes.
type Policy struct {
	Status  metav1.ConditionStatus
	Reason  string
	Message string
}

// EndpointPolicy is what Istio computes for one endpoint: before the server, and in the client's sidecar on the way there.
type EndpointPolicy struct {
	Name   string
	Server meshpolicy.Server
	Client meshpolicy.ClientPolicy
}

// PolicyInEffect holds what is declared against what Istio computes for every endpoint. There must be at least one.
func PolicyInEffect(target api.Target, declared api.MTLS, endpoints []EndpointPolicy) Policy {
	for _, check := range []func() (Policy, bool){
		func() (Policy, bool) { return ambient(endpoints) },
		func() (Policy, bool) { return sidecars(target.Sidecar, endpoints) },
		func() (Policy, bool) { return capture(target.Sidecar, declared.Mode, endpoints) },
		func() (Policy, bool) { return serverMode(target.Sidecar, declared.Mode, endpoints) },
		func() (Policy, bool) { return clientMode(declared.ClientMode, endpoints) },
	} {
		if found, decided := check(); decided {
			return found
		}
	}
	server := endpoints[0].Server
	switch {
	case target.Sidecar == api.SidecarDisabled:
		return Policy{metav1.ConditionTrue, api.ReasonNoSidecar, "no sidecar stands before the server, so no PeerAuthentication applies to it"}
	case !declared.Mode.IsSet():
		return Policy{metav1.ConditionTrue, api.ReasonInherited, server.String()}
	default:
		return Policy{metav1.ConditionTrue, api.ReasonInEffect, server.String()}
	}
}

func ambient(endpoints []EndpointPolicy) (Policy, bool) {
	found := that(endpoints, func(e EndpointPolicy) bool { return e.Server.Capture == meshpolicy.Ambient })
	if len(found) == 0 {
		return Policy{}, false
	}
	return Policy{metav1.ConditionUnknown, api.ReasonAmbientNotJudged,
		among(found, endpoints) + " in the ambient mesh, where ztunnel enforces mutual TLS; that is not judged yet"}, true
}

// sidecars holds the claim that there is a sidecar, or none, against the pods.
func sidecars(claimed api.Sidecar, endpoints []EndpointPolicy) (Policy, bool) {
	has := func(e EndpointPolicy) bool {
		return e.Server.Capture == meshpolicy.Captured || e.Server.Capture == meshpolicy.PortExcluded
	}
	if claimed == api.SidecarDisabled {
		if found := that(endpoints, has); len(found) > 0 {
			return Policy{metav1.ConditionFalse, api.ReasonSidecarPresent, "target.sidecar is Disabled, but there is one in " + among(found, endpoints)}, true
		}
		return Policy{}, false
	}
	found := that(endpoints, func(e EndpointPolicy) bool { return !has(e) })
	if len(found) == 0 {
		return Policy{}, false
	}
	why := ""
	if found[0].Server.Capture == meshpolicy.HostNetwork {
		why = ", which is on the node's own network and never gets one"
	}
	return Policy{metav1.ConditionFalse, api.ReasonSidecarMissing, "target.sidecar is Enabled, but there is none in " + among(found, endpoints) + why}, true
}

// capture looks for sidecars that do not see the connections to the port.
func capture(claimed api.Sidecar, declared api.MTLSMode, endpoints []EndpointPolicy) (Policy, bool) {
	if claimed == api.SidecarDisabled || declared == api.MTLSDisable {
		return Policy{}, false
	}
	found := that(endpoints, func(e EndpointPolicy) bool {
		return e.Server.Capture == meshpolicy.PortExcluded && (declared.IsSet() || e.Server.Mode != api.MTLSDisable)
	})
	if len(found) == 0 {
		return Policy{}, false
	}
	return Policy{metav1.ConditionFalse, api.ReasonNotCaptured, fmt.Sprintf("%s: %s", among(found, endpoints), found[0].Server)}, true
}

func serverMode(claimed api.Sidecar, declared api.MTLSMode, endpoints []EndpointPolicy) (Policy, bool) {
	if claimed == api.SidecarDisabled {
		return Policy{}, false
	}
	if !declared.IsSet() {
		first := endpoints[0]
		found := that(endpoints, func(e EndpointPolicy) bool { return e.Server.Enforced() != first.Server.Enforced() })
		if len(found) == 0 {
			return Policy{}, false
		}
		return Policy{metav1.ConditionFalse, api.ReasonMixed,
			fmt.Sprintf("the endpoints are not all under one mode: for %s %s; for %s %s", first.Name, first.Server, found[0].Name, found[0].Server)}, true
	}
	found := that(endpoints, func(e EndpointPolicy) bool { return e.Server.Enforced() != declared })
	if len(found) == 0 {
		return Policy{}, false
	}
	message := fmt.Sprintf("mtls.mode is %s, but %s", declared, found[0].Server)
	if len(found) < len(endpoints) {
		message = fmt.Sprintf("mtls.mode is %s, but for %s %s", declared, among(found, endpoints), found[0].Server)
	}
	return Policy{metav1.ConditionFalse, api.ReasonOverridden, message}, true
}

func clientMode(declared api.ClientTLSMode, endpoints []EndpointPolicy) (Policy, bool) {
	claim := fmt.Sprintf("mtls.clientMode is %s", declared)
	differs := func(e EndpointPolicy) bool { return e.Client.Sends != expectation.Declared("", "", declared).Sends }
	if !declared.IsSet() {
		claim = "mtls.clientMode is UNSET, which promises mutual TLS where the server takes it"
		differs = func(e EndpointPolicy) bool {
			enforced := e.Server.Enforced()
			return e.Client.Sends != meshpolicy.MutualTLS && (enforced == api.MTLSPermissive || enforced == api.MTLSStrict)
		}
	}
	found := that(endpoints, differs)
	if len(found) == 0 {
		return Policy{}, false
	}
	return Policy{metav1.ConditionFalse, api.ReasonOverridden,
		fmt.Sprintf("%s, but the client's sidecar sends %s: %s", claim, found[0].Client.Sends, found[0].Client.Why)}, true
}

// Against holds what Istio computes against what the paths saw. Where they differ although the declared policy is
// computed, something on the way from istiod to the proxies is wrong, and the policy is not in effect.
func (p Policy) Against(paths []Path, computed expectation.Expectations) Policy {
	if p.Status != metav1.ConditionTrue {
		return p
	}
	for _, path := range paths {
		expected, ok := computed[path.Evidence.Name]
		around := path.Evidence.Name != api.PathSleep && path.Status == metav1.ConditionFalse
		if ok && around && path.Reason == api.ReasonMTLSNotEnforced && expected.Kind == expectation.Refusal {
			return Policy{metav1.ConditionFalse, api.ReasonNotEnforced,
				fmt.Sprintf("%s; but on the path %s the request got through: istiod has not pushed the policy, or a proxy of the server has not taken it", p.Message, path.Evidence.Name)}
		}
		if ok && around && path.Reason == api.ReasonRefused && expected.Kind == expectation.Answer {
			return Policy{metav1.ConditionFalse, api.ReasonNotEnforced,
				fmt.Sprintf("%s; but on the path %s the request was refused: istiod has not pushed the policy, or a proxy of the server has not taken it", p.Message, path.Evidence.Name)}
		}
	}
	return p
}

func that(endpoints []EndpointPolicy, holds func(EndpointPolicy) bool) []EndpointPolicy {
	return slices.DeleteFunc(slices.Clone(endpoints), func(e EndpointPolicy) bool { return !holds(e) })
}

const maxNamed = 3

// among names some of the endpoints out of all.
func among(some, all []EndpointPolicy) string {
	names := make([]string, 0, maxNamed)
	for _, endpoint := range some[:min(len(some), maxNamed)] {
		names = append(names, endpoint.Name)
	}
	named := strings.Join(names, ", ")
	if len(some) > maxNamed {
		named += ", …"
	}
	if len(all) == 1 {
		return named
	}
	return fmt.Sprintf("%s (%d of %d endpoints)", named, len(some), len(all))
}
