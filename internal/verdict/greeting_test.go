package verdict_test

import (
	"testing"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// DISABLE, PERMISSIVE, STRICT and no sidecar before the port are told apart by three hellos.
func TestWhatStandsBeforeAnEndpointIsTold(t *testing.T) {
	truths := map[string]observation.EndpointResult{
		"STRICT":     greeted(endpoint("a", turnedAway), takesMutual, refusesForged),
		"PERMISSIVE": greeted(endpoint("a", served), takesMutual, refusesForged),
		"DISABLE":    greeted(endpoint("a", served), noProtocol, noProtocol),
		"untrusted":  greeted(endpoint("a", turnedAway), takesMutual, takesForged),
	}
	none := expectation.Declared(api.SidecarDisabled, api.MTLSUnset, api.ClientTLSUnset).Expectations()
	for declared, c := range map[string]struct {
		expected expectation.Expectations
		address  observation.Result
		want     map[string]meaning
	}{
		"STRICT": {strict, turnedAway, map[string]meaning{
			"STRICT": matches(api.ReasonRefusedByMesh), "PERMISSIVE": differs(api.ReasonMTLSNotEnforced), "DISABLE": differs(api.ReasonMTLSNotEnforced),
			"untrusted": differs(api.ReasonUntrustedCertificateAccepted),
		}},
		"PERMISSIVE": {permissive, served, map[string]meaning{
			"STRICT": differs(api.ReasonRefused), "PERMISSIVE": matches(api.ReasonAnswered), "DISABLE": differs(api.ReasonMutualTLSNotAccepted), "untrusted": differs(api.ReasonRefused),
		}},
		"DISABLE": {disabled, served, map[string]meaning{
			"STRICT": differs(api.ReasonRefused), "PERMISSIVE": differs(api.ReasonMutualTLSAccepted), "DISABLE": matches(api.ReasonAnswered), "untrusted": differs(api.ReasonRefused),
		}},
		"no sidecar": {none, served, map[string]meaning{
			"STRICT": differs(api.ReasonRefused), "PERMISSIVE": differs(api.ReasonMutualTLSAccepted), "DISABLE": matches(api.ReasonAnswered), "untrusted": differs(api.ReasonRefused),
		}},
	} {
		for truth, one := range truths {
			got := judge(c.expected, api.PathIstioProxy, run(served, beside(c.address, one), c.address))
			if found := (meaning{got.Evidence.Outcome, got.Reason}); found != c.want[truth] {
				t.Errorf("%s declared, %s: %v, want %v (%s)", declared, truth, found, c.want[truth], got.Message)
			}
			wantClaims(t, truth, got)
		}
	}
}

func TestAForgedCertificateMustBeRefusedByTheSidecar(t *testing.T) {
	silent := failed(observation.AgentSilent, "silent")
	for name, c := range map[string]struct {
		forged observation.Result
		want   meaning
	}{
		"refused by the sidecar":         {refusesForged, matches(api.ReasonRefusedByMesh)},
		"taken":                          {takesForged, differs(api.ReasonUntrustedCertificateAccepted)},
		"not asked yet":                  {unasked, open(api.ReasonEndpointsNotAsked)},
		"could not be asked":             {silent, notProbed},
		"an alert of nobody":             {noProtocol, inconclusive},
		"an alert of a stranger":         {alerted(asking(saw(observation.Alerted, neighbourLeaf)), "unknown_ca"), inconclusive},
		"an alert of the application":    {alerted(saw(observation.Alerted, nginxLeaf), "no_application_protocol"), inconclusive},
		"refused for want of one":        {turnedAway, inconclusive},
		"no certificate was asked for":   {saw(observation.Handshaken, sidecarLeaf), differs(api.ReasonMTLSNotEnforced)},
		"closed":                         {asking(saw(observation.ClosedAfterCertificateRequest, sidecarLeaf)), inconclusive},
		"reset":                          {brokenOff, inconclusive},
		"in time nothing":                {saw(observation.HandshakeTimeout, nil), inconclusive},
		"it came to the application":     {saw(observation.Handshaken, nginxLeaf), differs(api.ReasonMTLSNotEnforced)},
		"a class that is not yet known":  {saw("SomethingNew", sidecarLeaf), inconclusive},
		"the connection ended after all": {asking(saw(observation.ResponseClosed, sidecarLeaf)), inconclusive},
	} {
		one := greeted(endpoint("a", turnedAway), takesMutual, c.forged)
		got := judge(strict, api.PathIstioProxy, run(served, beside(turnedAway, one), turnedAway))
		if found := (meaning{got.Evidence.Outcome, got.Reason}); found != c.want {
			t.Errorf("%s: %v, want %v (%s)", name, found, c.want, got.Message)
		}
	}
}

// That no sidecar takes mutual TLS is shown by what the application says to the hello, and never by a broken connection.
func TestThatNoSidecarTakesMutualTLSMustBeShown(t *testing.T) {
	byAnything := criteria(disabled)
	byAnything.Server.Fingerprints = nil
	for name, c := range map[string]struct {
		plain, mesh observation.Result
		want        meaning
	}{
		"the application refuses the protocol":  {served, noProtocol, matches(api.ReasonAnswered)},
		"the application answers":               {served, saw(observation.Handshaken, nginxLeaf), matches(api.ReasonAnswered)},
		"it is no TLS":                          {served, saw(observation.NotTLS, nil), matches(api.ReasonAnswered)},
		"reset":                                 {served, brokenOff, inconclusive},
		"closed":                                {served, saw(observation.HandshakeClosed, nil), inconclusive},
		"in time nothing":                       {served, saw(observation.HandshakeTimeout, nil), inconclusive},
		"not asked yet":                         {served, unasked, open(api.ReasonEndpointsNotAsked)},
		"the sidecar takes it":                  {served, takesMutual, differs(api.ReasonMutualTLSAccepted)},
		"a sidecar of another account takes it": {served, asking(saw(observation.Handshaken, neighbourLeaf)), inconclusive},
		"the application looks like a sidecar":  {answered(200, neighbourLeaf), asking(saw(observation.Handshaken, neighbourLeaf)), matches(api.ReasonAnswered)},
	} {
		one := greeted(endpoint("a", c.plain), c.mesh, unasked)
		got := verdictOn(api.PathIstioProxy, after(byAnything, run(plain, beside(served, one), served)))
		if found := (meaning{got.Evidence.Outcome, got.Reason}); found != c.want {
			t.Errorf("%s: %v, want %v (%s)", name, found, c.want, got.Message)
		}
	}
}

// The hellos are made along one path, and a path that the spec overrides promises no mode.
func TestWhoIsNotGreetedNeedsNoGreeting(t *testing.T) {
	got := judge(strict, api.PathOutsider, run(served, turnedAway, beside(turnedAway, endpoint("a", turnedAway))))
	wantMeaning(t, "outsider", got, matches(api.ReasonRefusedByMesh), "refused")
	got = judge(strict, api.PathIstioProxy, run(served, beside(turnedAway, endpoint("a", turnedAway)), turnedAway))
	wantMeaning(t, "istio-proxy", got, open(api.ReasonEndpointsNotAsked), "refused")
}
