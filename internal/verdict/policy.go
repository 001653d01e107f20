package verdict

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

// Policy is the verdict on the declared mode against the one that Istio computes.
type Policy struct {
	Status  metav1.ConditionStatus
	Reason  string
	Message string
}

// PolicyInEffect holds the declared mode against the effective one.
func PolicyInEffect(sidecar api.Sidecar, declared api.MTLSMode, effective meshpolicy.Effective) Policy {
	switch {
	case sidecar == api.SidecarDisabled:
		return Policy{metav1.ConditionTrue, api.ReasonNoSidecar, "no sidecar stands before the server, so no PeerAuthentication applies to it"}
	case declared == api.MTLSUnset:
		return Policy{metav1.ConditionTrue, api.ReasonInherited, effective.String()}
	case effective.Mode == declared:
		return Policy{metav1.ConditionTrue, api.ReasonInEffect, effective.String()}
	default:
		return Policy{metav1.ConditionFalse, api.ReasonOverridden, fmt.Sprintf("mtls.mode is %s, but %s", declared, effective)}
	}
}
