package verdict_test

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// around is the verdict on a path, as far as the policy is concerned.
func around(name api.PathName, status metav1.ConditionStatus, reason string) verdict.Path {
	return verdict.Path{Status: status, Reason: reason, Evidence: api.PathStatus{Name: name}}
}

func TestAgainst(t *testing.T) {
	overridden := verdict.Policy{Status: metav1.ConditionFalse, Reason: api.ReasonOverridden, Message: "legacy decides"}
	open := verdict.Policy{Status: metav1.ConditionUnknown, Reason: api.ReasonAmbientNotJudged, Message: "ambient"}
	const no, yes = metav1.ConditionFalse, metav1.ConditionTrue
	for name, c := range map[string]struct {
		policy   verdict.Policy
		path     verdict.Path
		computed expectation.Expectations
		reason   string
		says     string
	}{
		"as computed":     {inEffect, around(api.PathOutsider, yes, api.ReasonRefusedByMesh), strict, inEffect.Reason, ""},
		"got through":     {inEffect, around(api.PathIstioProxy, no, api.ReasonMTLSNotEnforced), strict, api.ReasonNotEnforced, "on the path istio-proxy a request without a certificate of the mesh got through"},
		"got through too": {inEffect, around(api.PathOutsider, no, api.ReasonMTLSNotEnforced), strict, api.ReasonNotEnforced, "on the path outsider"},
		"was refused":     {inEffect, around(api.PathOutsider, no, api.ReasonRefused), permissive, api.ReasonNotEnforced, "on the path outsider a request without a certificate of the mesh was refused"},
		// Refused as computed, where the spec expects an answer: that is no disagreement of Istio with itself.
		"refused as computed":     {inEffect, around(api.PathOutsider, no, api.ReasonRefused), strict, inEffect.Reason, ""},
		"got through as computed": {inEffect, around(api.PathOutsider, no, api.ReasonMTLSNotEnforced), permissive, inEffect.Reason, ""},
		"nothing is computed":     {inEffect, around(api.PathOutsider, no, api.ReasonMTLSNotEnforced), nil, inEffect.Reason, ""},
		"not certain yet":         {inEffect, around(api.PathOutsider, yes, api.ReasonBelowThreshold), strict, inEffect.Reason, ""},
		"open":                    {inEffect, around(api.PathOutsider, metav1.ConditionUnknown, api.ReasonNoPositiveControl), strict, inEffect.Reason, ""},
		"no longer certain":       {inEffect, around(api.PathOutsider, metav1.ConditionUnknown, api.ReasonMTLSNotEnforced), strict, inEffect.Reason, ""},
		"the server is down":      {inEffect, around(api.PathOutsider, no, api.ReasonNoConnection), permissive, inEffect.Reason, ""},
		"somebody else answered":  {inEffect, around(api.PathOutsider, no, api.ReasonUnexpectedCertificate), strict, inEffect.Reason, ""},
		// What the client's sidecar does is another matter than what is enforced before the server.
		"sleep was refused":     {inEffect, around(api.PathSleep, no, api.ReasonRefused), permissive, inEffect.Reason, ""},
		"already overridden":    {overridden, around(api.PathOutsider, no, api.ReasonMTLSNotEnforced), strict, overridden.Reason, "legacy decides"},
		"not judged in general": {open, around(api.PathOutsider, no, api.ReasonMTLSNotEnforced), strict, open.Reason, "ambient"},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.policy.Against([]verdict.Path{around(api.PathSleep, yes, api.ReasonAnswered), c.path}, c.computed)
			if got.Reason != c.reason || !strings.Contains(got.Message, c.says) {
				t.Errorf("%s: %s, want %s: …%s…", got.Reason, got.Message, c.reason, c.says)
			}
			if notEnforced := got.Reason == api.ReasonNotEnforced; notEnforced && (got.Status != no || !strings.HasPrefix(got.Message, inEffect.Message)) {
				t.Errorf("%s: %s", got.Status, got.Message)
			} else if !notEnforced && got != c.policy {
				t.Errorf("changed from %v to %v", c.policy, got)
			}
		})
	}
}
