package verdict_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

var inEffect = verdict.Policy{Status: metav1.ConditionTrue, Reason: api.ReasonInEffect, Message: "as declared"}

// pathsAfter are the verdicts on shop/strict after the runs, an interval apart, with the threshold 2.
func pathsAfter(runs ...observation.Run) []verdict.Path {
	return after(twice(strict), every(interval, runs...)...)
}

// twice are criteria with the threshold 2.
func twice(declared expectation.Expectations) verdict.Criteria {
	c := criteria(declared)
	c.FailureThreshold = 2
	return c
}

func readyOf(t *testing.T, conditions []metav1.Condition) metav1.Condition {
	t.Helper()
	ready := meta.FindStatusCondition(conditions, api.ConditionReady)
	if ready == nil {
		t.Fatal("no condition Ready")
	}
	return *ready
}

func TestReadySumsUp(t *testing.T) {
	good, letIn, lost := run(served, turnedAway, turnedAway), run(served, turnedAway, served), run(served, turnedAway, unasked)
	down := run(brokenOff, turnedAway, turnedAway)
	overridden := verdict.Policy{Status: metav1.ConditionFalse, Reason: api.ReasonOverridden, Message: "legacy decides"}
	notJudged := verdict.Policy{Status: metav1.ConditionUnknown, Reason: api.ReasonAmbientNotJudged, Message: "in the ambient mesh"}
	for name, c := range map[string]struct {
		runs     []observation.Run
		policy   verdict.Policy
		status   metav1.ConditionStatus
		reason   string
		contains []string
	}{
		"all verified":         {[]observation.Run{good}, inEffect, metav1.ConditionTrue, api.ReasonVerified, []string{"sleep 200, istio-proxy refused, outsider refused: as expected"}},
		"one refuted":          {[]observation.Run{letIn}, inEffect, metav1.ConditionFalse, api.ReasonRefuted, []string{"outsider: the request got in (200)"}},
		"one open":             {[]observation.Run{lost}, inEffect, metav1.ConditionUnknown, api.ReasonUndetermined, []string{"outsider: no request was sent"}},
		"policy refuted":       {[]observation.Run{good}, overridden, metav1.ConditionFalse, api.ReasonRefuted, []string{"policy: legacy decides"}},
		"refuted beats open":   {[]observation.Run{lost}, overridden, metav1.ConditionFalse, api.ReasonRefuted, []string{"policy: legacy decides"}},
		"two refuted":          {[]observation.Run{letIn}, overridden, metav1.ConditionFalse, api.ReasonRefuted, []string{"outsider:", "; policy:"}},
		"open below":           {[]observation.Run{down}, inEffect, metav1.ConditionUnknown, api.ReasonUndetermined, []string{"sleep: failure 1"}},
		"policy open":          {[]observation.Run{good}, notJudged, metav1.ConditionUnknown, api.ReasonUndetermined, []string{"policy: in the ambient mesh"}},
		"refuted, policy open": {[]observation.Run{letIn}, notJudged, metav1.ConditionFalse, api.ReasonRefuted, []string{"outsider: the request got in (200)"}},
		"verified, one below":  {[]observation.Run{good, down}, inEffect, metav1.ConditionTrue, api.ReasonVerified, []string{"istio-proxy refused, outsider refused: as expected; sleep: failure 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			ready := readyOf(t, verdict.Conditions(verdict.Standing{Phase: verdict.Judged}, pathsAfter(c.runs...), c.policy))
			if ready.Status != c.status || ready.Reason != c.reason {
				t.Errorf("%s %s, want %s %s (%s)", ready.Status, ready.Reason, c.status, c.reason, ready.Message)
			}
			for _, part := range c.contains {
				if !strings.Contains(ready.Message, part) {
					t.Errorf("message %q lacks %q", ready.Message, part)
				}
			}
		})
	}
}

// Where the policy's own message explains what the paths saw, Ready tells that in a few words.
func TestReadySaysShortlyWhatThePolicyExplains(t *testing.T) {
	overridden := verdict.Policy{Status: metav1.ConditionFalse, Reason: api.ReasonOverridden, Message: "legacy decides"}
	plain := sent(served, passedOn, toMutual)
	for name, c := range map[string]struct {
		paths  []verdict.Path
		policy verdict.Policy
		want   string
	}{
		"got through":          {pathsAfter(run(served, served, turnedAway), run(served, served, turnedAway)), overridden, "istio-proxy: 200 instead of refused; policy: legacy decides"},
		"got through once":     {pathsAfter(run(served, turnedAway, turnedAway), run(brokenOff, turnedAway, turnedAway)), overridden, "policy: legacy decides"},
		"as expected":          {pathsAfter(run(served, turnedAway, turnedAway)), overridden, "policy: legacy decides"},
		"could not be asked":   {pathsAfter(run(served, unasked, turnedAway)), overridden, "policy: legacy decides"},
		"what no policy tells": {pathsAfter(run(plain, turnedAway, turnedAway), run(plain, turnedAway, turnedAway)), overridden, "sleep: " + pathsAfter(run(plain, turnedAway, turnedAway), run(plain, turnedAway, turnedAway))[0].Message + "; policy: legacy decides"},
		"the policy is fine":   {pathsAfter(run(served, served, turnedAway), run(served, served, turnedAway)), inEffect, "istio-proxy: " + pathsAfter(run(served, served, turnedAway), run(served, served, turnedAway))[1].Message},
	} {
		ready := readyOf(t, verdict.Conditions(verdict.Standing{Phase: verdict.Judged}, c.paths, c.policy))
		if ready.Status != metav1.ConditionFalse || ready.Message != c.want {
			t.Errorf("%s: %s %q, want %q", name, ready.Status, ready.Message, c.want)
		}
	}
}

// Nothing asked is nothing verified, whoever calls.
func TestJudgedWithoutRunsIsNotReady(t *testing.T) {
	conditions := verdict.Conditions(verdict.Standing{Phase: verdict.Judged}, nil, inEffect)
	if ready := readyOf(t, conditions); ready.Status != metav1.ConditionUnknown {
		t.Errorf("Ready is %s without a single run: %s", ready.Status, ready.Message)
	}
	for _, path := range paths.Names() {
		if c := meta.FindStatusCondition(conditions, paths.Condition(path)); c == nil || c.Status != metav1.ConditionUnknown {
			t.Errorf("%s: %v", path, c)
		}
	}
}

func TestConditionsOfEachPhase(t *testing.T) {
	judged := pathsAfter(run(served, turnedAway, turnedAway))
	const absent = metav1.ConditionStatus("")
	for _, c := range []struct {
		phase                               verdict.Phase
		ready, reconciling, stalled, others metav1.ConditionStatus
		kstatus                             string
	}{
		{verdict.Judged, metav1.ConditionTrue, absent, absent, metav1.ConditionTrue, "Current"},
		{verdict.Progressing, metav1.ConditionUnknown, metav1.ConditionTrue, absent, metav1.ConditionUnknown, "InProgress"},
		{verdict.Troubled, metav1.ConditionFalse, absent, absent, metav1.ConditionUnknown, "InProgress"},
		{verdict.Stalled, metav1.ConditionFalse, absent, metav1.ConditionTrue, metav1.ConditionUnknown, "Failed"},
		{verdict.Failing, metav1.ConditionUnknown, metav1.ConditionTrue, absent, metav1.ConditionUnknown, "InProgress"},
		{verdict.Suspended, metav1.ConditionUnknown, absent, absent, metav1.ConditionUnknown, "InProgress"},
	} {
		t.Run(string(c.phase), func(t *testing.T) {
			conditions := verdict.Conditions(verdict.Standing{Phase: c.phase, Reason: "Because", Message: "of that"}, judged, inEffect)
			want := map[string]metav1.ConditionStatus{
				api.ConditionReady: c.ready, api.ConditionReconciling: c.reconciling, api.ConditionStalled: c.stalled,
				api.ConditionSleepVerified: c.others, api.ConditionIstioProxyVerified: c.others,
				api.ConditionOutsiderVerified: c.others, api.ConditionPolicyInEffect: c.others,
			}
			wantStatuses(t, conditions, want)
			for _, condition := range conditions {
				if c.phase != verdict.Judged && (condition.Reason != "Because" || condition.Message != "of that") {
					t.Errorf("%s says %s: %s", condition.Type, condition.Reason, condition.Message)
				}
			}
			if got := kstatus(1, api.HTTPSMeshProbeStatus{ObservedGeneration: 1, Conditions: conditions}); got != c.kstatus {
				t.Errorf("kstatus says %s, want %s", got, c.kstatus)
			}
		})
	}
}

func wantStatuses(t *testing.T, conditions []metav1.Condition, want map[string]metav1.ConditionStatus) {
	t.Helper()
	for kind, status := range want {
		condition := meta.FindStatusCondition(conditions, kind)
		switch {
		case condition == nil && status != "":
			t.Errorf("%s is missing, want %s", kind, status)
		case condition != nil && condition.Status != status:
			t.Errorf("%s is %s, want %q", kind, condition.Status, status)
		}
	}
	for i, condition := range conditions {
		if _, known := want[condition.Type]; !known {
			t.Errorf("unexpected condition %s", condition.Type)
		}
		if slices.ContainsFunc(conditions[:i], func(c metav1.Condition) bool { return c.Type == condition.Type }) {
			t.Errorf("%s is there twice", condition.Type)
		}
	}
}

// kstatus is what kstatus, and with it Flux and kubectl wait, make of a status: the generic rules of
// sigs.k8s.io/cli-utils pkg/kstatus/status (checkGenericProperties and checkReadyCondition).
func kstatus(generation int64, status api.HTTPSMeshProbeStatus) string {
	isTrue := func(kind string) bool { return meta.IsStatusConditionTrue(status.Conditions, kind) }
	ready := meta.FindStatusCondition(status.Conditions, api.ConditionReady)
	switch {
	case status.ObservedGeneration != generation:
		return "InProgress"
	case isTrue("Reconciling"):
		return "InProgress"
	case isTrue("Stalled"):
		return "Failed"
	case ready != nil && ready.Status != metav1.ConditionTrue:
		return "InProgress"
	default:
		return "Current"
	}
}

func TestAProbeNobodyLookedAtIsInProgress(t *testing.T) {
	if got := kstatus(1, untouched); got != "InProgress" {
		t.Errorf("kstatus says %s", got)
	}
}

// Every limit of the API holds, or the API server would refuse the whole status and the one before would stay: a True
// that is no longer so.
func TestNothingIsLongerThanTheAPIAllows(t *testing.T) {
	huge := strings.Repeat("ü😀", 2000)
	hostile := saw(observation.Alerted, certificate("f", "spiffe://"+huge))
	hostile.Seen.TLSVersion, hostile.Seen.CipherSuite, hostile.Seen.Alert = huge, huge, huge
	unresolved := saw(observation.NameNotResolved, nil)
	unresolved.Seen.Error = huge
	for name, result := range map[string]observation.Result{
		"hostile peer":   hostile,
		"hostile 200":    {Seen: observation.Observation{Class: observation.Answered, HTTPCode: 999, Leaf: hostile.Seen.Leaf}},
		"failure":        failed(observation.ExecFailed, huge),
		"agent's error":  unresolved,
		"class":          saw(observation.Class(huge), nil),
		"led elsewhere":  sent(served, &observation.Sent{Cluster: huge, Host: huge}, &observation.Delivered{Config: huge, Legs: []observation.Leg{{Cluster: huge, Config: huge, Weight: 1, TLS: observation.LegTLS(huge)}}}),
		"not attributed": sent(served, &observation.Sent{Error: huge}, &observation.Delivered{Error: huge}),
	} {
		t.Run(name, func(t *testing.T) {
			for _, shift := range []string{"", "x", "xy", "xyz"} {
				policy := verdict.Policy{Status: metav1.ConditionFalse, Reason: api.ReasonOverridden, Message: shift + huge}
				one := run(result, result, result)
				c := criteria(strict)
				c.Explanations = map[api.PathName]string{api.PathSleep: shift + huge}
				c.Denials = c.Explanations
				judged := after(c, one)
				status := verdict.Status(untouched, verdict.Judgement{
					Standing: verdict.Standing{Phase: verdict.Judged}, Paths: judged, Policy: policy, Handled: shift + huge, Delivered: verdict.Delivered(one),
					Change:      &api.PolicyChange{Object: shift + huge, From: shift + huge, To: shift + huge},
					Certificate: ownCertificate(verdict.Server{}, run(answered(200, &observation.Certificate{SHA256: shift + huge}), unasked, unasked), firstRun),
				}, firstRun, 0)
				wantWithinLimits(t, status)
			}
		})
	}
	for _, phase := range []verdict.Phase{verdict.Progressing, verdict.Troubled, verdict.Stalled, verdict.Failing, verdict.Suspended} {
		standing := verdict.Standing{Phase: phase, Reason: api.ReasonApplyFailed, Message: huge}
		wantWithinLimits(t, verdict.Status(untouched, verdict.Judgement{Standing: standing}, firstRun, 0))
	}
}

func wantWithinLimits(t *testing.T, status api.HTTPSMeshProbeStatus) {
	t.Helper()
	within := func(field, text string, limit int) {
		if len(text) > limit || !utf8.ValidString(text) {
			t.Errorf("%s has %d bytes, at most %d are allowed; valid UTF-8: %v", field, len(text), limit, utf8.ValidString(text))
		}
	}
	for _, condition := range status.Conditions {
		within(condition.Type+" message", condition.Message, 1024)
	}
	if delivered := status.Delivered; delivered != nil {
		within("delivered object", delivered.Object, 512)
		within("delivered message", delivered.Message, 512)
		for _, leg := range delivered.Legs {
			within("cluster", leg.Cluster, 512)
			within("leg's object", leg.Object, 512)
		}
	}
	within("lastHandledRequest", status.LastHandledRequest, 256)
	if status.Certificate != nil {
		within("sha256", status.Certificate.SHA256, 64)
	}
	if change := status.LastPolicyChange; change != nil {
		within("object", change.Object, 512)
		within("from", change.From, 128)
		within("to", change.To, 128)
	}
	for _, path := range status.Paths {
		for field, limited := range map[string]struct {
			text  string
			limit int
		}{
			"expected": {path.Expected, 64}, "observed": {path.Observed, 64}, "tlsVersion": {path.TLSVersion, 16},
			"cipherSuite": {path.CipherSuite, 64}, "peer": {path.Peer, 512}, "alert": {path.Alert, 64}, "message": {path.Message, 1024}, "sentTo": {path.SentTo, 512},
		} {
			within(fmt.Sprintf("%s %s", path.Name, field), limited.text, limited.limit)
		}
		for _, claim := range path.Claims {
			within(fmt.Sprintf("%s %s", path.Name, claim.Question), claim.Evidence, 512)
		}
		if path.Endpoints == nil {
			continue
		}
		if len(path.Endpoints.Examples) > 5 {
			t.Errorf("%s: %d examples", path.Name, len(path.Endpoints.Examples))
		}
		for _, example := range path.Endpoints.Examples {
			within("name", example.Name, 253)
			within("address", example.Address, 64)
			within("observed", example.Observed, 64)
			within("message", example.Message, 512)
		}
	}
}

func TestAClippedMessageKeepsItsBeginning(t *testing.T) {
	standing := verdict.Standing{Phase: verdict.Stalled, Reason: api.ReasonNameTaken, Message: "Service shop/strict-nginx exists" + strings.Repeat("!", 2000)}
	message := readyOf(t, verdict.Conditions(standing, nil, verdict.Policy{})).Message
	if !strings.HasPrefix(message, "Service shop/strict-nginx exists") || !strings.HasSuffix(message, "…") || len(message) != 1024 {
		t.Errorf("%d bytes: %s", len(message), message)
	}
	standing.Message = strings.Repeat("!", 1024)
	if got := readyOf(t, verdict.Conditions(standing, nil, verdict.Policy{})).Message; got != standing.Message {
		t.Errorf("a message of 1024 bytes was clipped")
	}
}
