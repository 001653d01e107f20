package effective

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

// Agreement says whether what is declared is what Istio computes.
type Agreement struct {
	// Status is Unknown where what is computed is not judged.
	Status metav1.ConditionStatus
	// Reason is one of those of the condition PolicyInEffect, and Message names the objects that decide.
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
func PolicyInEffect(target api.Target, declared api.MTLS, endpoints []EndpointPolicy) Agreement {
	for _, check := range []func() (Agreement, bool){
		func() (Agreement, bool) { return ambient(endpoints) },
		func() (Agreement, bool) { return sidecars(target.Sidecar, endpoints) },
		func() (Agreement, bool) { return capture(target.Sidecar, declared.Mode, endpoints) },
		func() (Agreement, bool) { return serverMode(target.Sidecar, declared.Mode, endpoints) },
		func() (Agreement, bool) { return inheritance(target.Sidecar, declared.Mode, endpoints) },
		func() (Agreement, bool) { return clientMode(declared.ClientMode, endpoints) },
	} {
		if found, decided := check(); decided {
			return found
		}
	}
	server := endpoints[0].Server
	switch {
	case target.Sidecar == api.SidecarDisabled:
		return Agreement{metav1.ConditionTrue, api.ReasonNoSidecar, "no sidecar stands before the server, so no PeerAuthentication applies to it"}
	case !declared.Mode.IsSet():
		return Agreement{metav1.ConditionTrue, api.ReasonInherited, server.String()}
	default:
		return Agreement{metav1.ConditionTrue, api.ReasonInEffect, server.String()}
	}
}

func ambient(endpoints []EndpointPolicy) (Agreement, bool) {
	found := that(endpoints, func(e EndpointPolicy) bool { return e.Server.Capture == meshpolicy.Ambient })
	if len(found) == 0 {
		return Agreement{}, false
	}
	return Agreement{metav1.ConditionUnknown, api.ReasonAmbientNotJudged,
		among(found, endpoints) + " in the ambient mesh, where ztunnel enforces mutual TLS; that is not judged yet"}, true
}

// sidecars holds the claim that there is a sidecar, or none, against the pods. A proxy that no connection is led to stands
// before nothing.
func sidecars(claimed api.Sidecar, endpoints []EndpointPolicy) (Agreement, bool) {
	if claimed == api.SidecarDisabled {
		found := that(endpoints, func(e EndpointPolicy) bool {
			return e.Server.Capture == meshpolicy.Captured || e.Server.Capture == meshpolicy.PortExcluded
		})
		if len(found) > 0 {
			return Agreement{metav1.ConditionFalse, api.ReasonSidecarPresent, "target.sidecar is Disabled, but there is one in " + among(found, endpoints)}, true
		}
		return Agreement{}, false
	}
	found := that(endpoints, func(e EndpointPolicy) bool {
		return e.Server.Capture == meshpolicy.NoSidecar || e.Server.Capture == meshpolicy.HostNetwork
	})
	if len(found) == 0 {
		return Agreement{}, false
	}
	why := ""
	if found[0].Server.Capture == meshpolicy.HostNetwork {
		why = ", which is on the node's own network and never gets one"
	}
	return Agreement{metav1.ConditionFalse, api.ReasonSidecarMissing, "target.sidecar is Enabled, but there is none in " + among(found, endpoints) + why}, true
}

// capture looks for sidecars that do not see the connections to the port. Where that is as good as DISABLE, it does not
// contradict it; but a proxy that sees no connection at all is no sidecar.
func capture(claimed api.Sidecar, declared api.MTLSMode, endpoints []EndpointPolicy) (Agreement, bool) {
	if claimed == api.SidecarDisabled {
		return Agreement{}, false
	}
	found := that(endpoints, func(e EndpointPolicy) bool {
		wanted := declared
		if !declared.IsSet() {
			wanted = e.Server.Mode
		}
		return e.Server.Capture == meshpolicy.NoRedirection || e.Server.Capture == meshpolicy.PortExcluded && wanted != api.MTLSDisable
	})
	if len(found) == 0 {
		return Agreement{}, false
	}
	return Agreement{metav1.ConditionFalse, api.ReasonNotCaptured, fmt.Sprintf("%s: %s", among(found, endpoints), found[0].Server)}, true
}

func serverMode(claimed api.Sidecar, declared api.MTLSMode, endpoints []EndpointPolicy) (Agreement, bool) {
	if claimed == api.SidecarDisabled {
		return Agreement{}, false
	}
	if !declared.IsSet() {
		first := endpoints[0]
		found := that(endpoints, func(e EndpointPolicy) bool { return e.Server.Enforced() != first.Server.Enforced() })
		if len(found) == 0 {
			return Agreement{}, false
		}
		return Agreement{metav1.ConditionFalse, api.ReasonMixed,
			fmt.Sprintf("the endpoints are not all under one mode: for %s %s; for %s %s", first.Name, first.Server, found[0].Name, found[0].Server)}, true
	}
	found := that(endpoints, func(e EndpointPolicy) bool { return e.Server.Enforced() != declared })
	if len(found) == 0 {
		return Agreement{}, false
	}
	message := fmt.Sprintf("mtls.mode is %s, but %s", declared, found[0].Server)
	if len(found) < len(endpoints) {
		message = fmt.Sprintf("mtls.mode is %s, but for %s %s", declared, among(found, endpoints), found[0].Server)
	}
	return Agreement{metav1.ConditionFalse, api.ReasonOverridden, message}, true
}

// inheritance holds the claim that the mode is inherited against the endpoints: a mode of a workload's own is not. No mode
// at all, which the API server never leaves in a probe, claims nothing.
func inheritance(claimed api.Sidecar, declared api.MTLSMode, endpoints []EndpointPolicy) (Agreement, bool) {
	if claimed == api.SidecarDisabled || declared != api.MTLSUnset {
		return Agreement{}, false
	}
	found := that(endpoints, func(e EndpointPolicy) bool { return e.Server.Own() })
	if len(found) == 0 {
		return Agreement{}, false
	}
	message := fmt.Sprintf("mtls.mode is UNSET, which inherits; but %s", found[0].Server)
	if len(found) < len(endpoints) {
		message = fmt.Sprintf("mtls.mode is UNSET, which inherits; but for %s %s", among(found, endpoints), found[0].Server)
	}
	return Agreement{metav1.ConditionFalse, api.ReasonOverridden, message}, true
}

func clientMode(declared api.ClientTLSMode, endpoints []EndpointPolicy) (Agreement, bool) {
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
		return Agreement{}, false
	}
	return Agreement{metav1.ConditionFalse, api.ReasonOverridden,
		fmt.Sprintf("%s, but the client's sidecar sends %s: %s", claim, found[0].Client.Sends, found[0].Client.Why)}, true
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
