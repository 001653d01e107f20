package expectation_test

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/intstr"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
)

// A mode that a namespace or mesh sets does not reach a server without sidecar.
func TestNoModeReachesAServerWithoutSidecar(t *testing.T) {
	for _, mode := range []api.MTLSMode{"", api.MTLSUnset, disable, permissive, strict} {
		expectations := expectation.Declared(bare, mode, auto).Expectations()
		wantMeets(t, fmt.Sprintf("bare under %q", mode), expectations, "200 200 200", asIs)
		for path, expected := range expectations {
			if !strings.Contains(expected.Why, "no sidecar") {
				t.Errorf("%s under %q is explained with %q", path, mode, expected.Why)
			}
		}
	}
}

// A spec that leaves clientMode out is read as UNSET by the API server, and by Go code that skipped it as "".
func TestNoClientModeIsUnset(t *testing.T) {
	for _, sidecar := range []api.Sidecar{bare, meshed} {
		for _, mode := range []api.MTLSMode{disable, permissive, strict} {
			if got, want := expectation.Declared(sidecar, mode, ""), expectation.Declared(sidecar, mode, auto); got != want {
				t.Errorf("%s %s: %v, want %v", sidecar, mode, got, want)
			}
		}
	}
}

// Every expectation says why, by what decides it.
func TestExpectationsAreExplained(t *testing.T) {
	for _, c := range []struct {
		mode   api.MTLSMode
		client api.ClientTLSMode
		path   api.PathName
		says   string
	}{
		{disable, auto, api.PathOutsider, "DISABLE leaves every connection"},
		{permissive, auto, api.PathSleep, "PERMISSIVE accepts the mutual TLS of the client's sidecar"},
		{permissive, plain, api.PathSleep, "PERMISSIVE accepts connections without a certificate"},
		{permissive, auto, api.PathIstioProxy, "without a certificate"},
		{strict, auto, api.PathSleep, "STRICT demands a certificate of the mesh, and the client's sidecar has one"},
		{strict, auto, api.PathOutsider, "STRICT demands a certificate of the mesh, and this path has none"},
		{strict, plain, api.PathSleep, "the client's sidecar is told to send none"},
		{disable, istio, api.PathSleep, "told to send mutual TLS, and no sidecar takes it"},
		{strict, simple, api.PathSleep, "TLS of its own, which the server does not expect"},
	} {
		why := expectation.Declared(meshed, c.mode, c.client).Expectations()[c.path].Why
		if !strings.Contains(why, c.says) {
			t.Errorf("%s, client %s: %s is explained with %q, which lacks %q", c.mode, c.client, c.path, why, c.says)
		}
	}
}

// TLS with a client certificate that is not the mesh's meets a server that takes only the mesh's, or nobody's.
func TestAForeignClientCertificateGetsNowhere(t *testing.T) {
	for _, mode := range []api.MTLSMode{disable, permissive, strict} {
		promise := expectation.Promise{Sidecar: meshed, Mode: mode, Sends: meshpolicy.OtherTLS}
		if got := promise.Expectations()[api.PathSleep]; got.Kind != expectation.Failure {
			t.Errorf("%s: %s", mode, got)
		}
	}
}

// What goes around the client's sidecar does not depend on what that is told.
func TestThePathsAroundDoNotDependOnTheClientsSidecar(t *testing.T) {
	for _, r := range measured {
		want := expectation.Declared(r.sidecar, r.mode(), auto).Around()
		expectations := expectation.Declared(r.sidecar, r.mode(), r.client).Expectations()
		for _, path := range []api.PathName{api.PathIstioProxy, api.PathOutsider} {
			if got := expectations[path]; got != want {
				t.Errorf("%s: %s expects %v, want %v", r, path, got, want)
			}
		}
	}
}

// A path around the sidecar never fails as declared: its refusals have to be refusals.
func TestOnlySleepMayBeExpectedToFail(t *testing.T) {
	for _, r := range measured {
		for path, expected := range expectation.Declared(r.sidecar, r.mode(), r.client).Expectations() {
			if path != api.PathSleep && expected.Kind == expectation.Failure {
				t.Errorf("%s: %s is to fail", r, path)
			}
		}
	}
}

// As long as the client's sidecar is left to itself, sleep is the positive control of the others' refusals.
func TestThePositiveControlIsNeverToBeRefusedByDefault(t *testing.T) {
	for _, r := range measured {
		if got := expectation.Declared(r.sidecar, r.mode(), auto).Expectations()[api.PathSleep]; got.Kind != expectation.Answer {
			t.Errorf("%s: sleep is to see %s", r, got)
		}
	}
}

func TestString(t *testing.T) {
	for want, expected := range map[string]expectation.Expectation{
		"refused":   {Kind: expectation.Refusal, Code: 403},
		"no answer": {Kind: expectation.Failure},
		"200":       {Kind: expectation.Answer, Code: 200},
		"401":       {Kind: expectation.Answer, Code: 401},
	} {
		if got := expected.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestOverride(t *testing.T) {
	const why = "an allow-list answers for nobody else"
	for _, c := range []struct {
		path       api.PathName
		see        string
		kind       expectation.Kind
		code       int
		encryption api.Encryption
	}{
		{api.PathSleep, "401", expectation.Answer, 401, byMutual},
		{api.PathSleep, "200", expectation.Answer, 200, byMutual},
		// A refusal says nothing of how the request was sent.
		{api.PathSleep, "refused", expectation.Refusal, 0, ""},
		{api.PathIstioProxy, "200", expectation.Answer, 200, ""},
		{api.PathOutsider, "503", expectation.Answer, 503, ""},
		{api.PathOutsider, "refused", expectation.Refusal, 0, ""},
	} {
		expectations := expectation.Declared(meshed, strict, auto).Expectations()
		before := expectation.Declared(meshed, strict, auto).Expectations()
		expectations.Override([]api.PathExpectation{{Path: c.path, See: intstr.Parse(c.see), Reason: why}})
		got := expectations[c.path]
		if got.Kind != c.kind || got.Code != c.code || got.Encryption != c.encryption || got.String() != c.see {
			t.Errorf("%s is to see %s: %+v", c.path, c.see, got)
		}
		if got.Reason != why || got.Why != "spec.expect says so: "+why {
			t.Errorf("%s is to see %s: reason %q, why %q", c.path, c.see, got.Reason, got.Why)
		}
		for path, expected := range expectations {
			if path != c.path && expected != before[path] {
				t.Errorf("an override of %s changes %s: %v", c.path, path, expected)
			}
		}
	}
}

func TestOverridesOfSeveralPaths(t *testing.T) {
	expectations := expectation.Declared(meshed, strict, simple).Expectations()
	expectations.Override([]api.PathExpectation{
		{Path: api.PathSleep, See: intstr.Parse("200"), Reason: "a gateway takes TLS in TLS"}, {Path: api.PathOutsider, See: intstr.Parse("403"), Reason: "a firewall answers"},
	})
	wantMeetsWords(t, expectations, "200 refused 403")
	expectations.Override(nil)
	wantMeetsWords(t, expectations, "200 refused 403")
}

func wantMeetsWords(t *testing.T, expectations expectation.Expectations, want string) {
	t.Helper()
	var got []string
	for _, path := range paths.Names() {
		got = append(got, expectations[path].String())
	}
	if got := strings.Join(got, " "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
