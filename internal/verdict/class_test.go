package verdict_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

// meaning is what a class means to a path with a certain expectation.
type meaning struct {
	outcome api.Outcome
	reason  string
}

var (
	noAnswer     = meaning{api.OutcomeMismatch, api.ReasonNoAnswer}
	inconclusive = meaning{api.OutcomeUnknown, api.ReasonInconclusive}
	notProbed    = meaning{api.OutcomeUnknown, api.ReasonNotProbed}
)

// classes says of every class what it means where nobody has shown the server's own certificate, but for Answered,
// which is answered by the server, and ClientCertificateRequired, which comes from its sidecar.
var classes = map[observation.Class]struct {
	result              observation.Result
	word                string
	wantAnswer, wantRef meaning
}{
	observation.Answered: {served, "200",
		meaning{api.OutcomeMatch, api.ReasonAnswered}, meaning{api.OutcomeMismatch, api.ReasonMTLSNotEnforced}},
	observation.ClientCertificateRequired: {turnedAway, "refused",
		meaning{api.OutcomeMismatch, api.ReasonRefused}, meaning{api.OutcomeMatch, api.ReasonRefusedByMesh}},
	observation.ClosedAfterCertificateRequest: {saw(observation.ClosedAfterCertificateRequest, sidecarLeaf), "closed", noAnswer, inconclusive},
	observation.NameNotResolved:               {saw(observation.NameNotResolved, nil), "not probed", notProbed, notProbed},
	observation.ConnectionRefused:             {saw(observation.ConnectionRefused, nil), "no connection", noAnswer, inconclusive},
	observation.Unreachable:                   {saw(observation.Unreachable, nil), "no connection", noAnswer, inconclusive},
	observation.ConnectTimeout:                {saw(observation.ConnectTimeout, nil), "timeout", noAnswer, inconclusive},
	observation.NotTLS:                        {saw(observation.NotTLS, nil), "no TLS", noAnswer, inconclusive},
	observation.Alerted:                       {saw(observation.Alerted, sidecarLeaf), "alert", noAnswer, inconclusive},
	observation.HandshakeTimeout:              {saw(observation.HandshakeTimeout, sidecarLeaf), "timeout", noAnswer, inconclusive},
	observation.HandshakeClosed:               {saw(observation.HandshakeClosed, nil), "closed", noAnswer, inconclusive},
	observation.HandshakeReset:                {saw(observation.HandshakeReset, nil), "reset", noAnswer, inconclusive},
	observation.HandshakeFailed:               {saw(observation.HandshakeFailed, nil), "no handshake", noAnswer, inconclusive},
	observation.ResponseTimeout:               {saw(observation.ResponseTimeout, sidecarLeaf), "timeout", noAnswer, inconclusive},
	observation.ResponseClosed:                {saw(observation.ResponseClosed, sidecarLeaf), "closed", noAnswer, inconclusive},
	observation.ResponseReset:                 {saw(observation.ResponseReset, sidecarLeaf), "reset", noAnswer, inconclusive},
	observation.NotHTTP:                       {saw(observation.NotHTTP, sidecarLeaf), "no HTTP", noAnswer, inconclusive},
	observation.InvalidRequest:                {saw(observation.InvalidRequest, nil), "not probed", notProbed, notProbed},
}

func TestTheTableHoldsEveryClass(t *testing.T) {
	for _, class := range observation.Classes() {
		if _, ok := classes[class]; !ok {
			t.Errorf("class %s is not in the table: say what it means", class)
		}
	}
	if len(classes) != len(observation.Classes()) {
		t.Errorf("the table holds %d classes, the wire format %d", len(classes), len(observation.Classes()))
	}
}

func TestEveryClassMeansOneThing(t *testing.T) {
	for class, row := range classes {
		t.Run(string(class), func(t *testing.T) {
			if row.result.Seen.Class != class {
				t.Fatalf("the row holds an observation of class %s", row.result.Seen.Class)
			}
			if word := verdict.Word(row.result.Seen); word != row.word {
				t.Errorf("word %q, want %q", word, row.word)
			}
			wantMeaning(t, "expected 200", judge(permissive, api.PathOutsider, run(served, served, row.result)), row.wantAnswer, row.word)
			wantMeaning(t, "expected refused", judge(strict, api.PathOutsider, run(served, turnedAway, row.result)), row.wantRef, row.word)
		})
	}
}

func wantMeaning(t *testing.T, expected string, path verdict.Path, want meaning, word string) {
	t.Helper()
	if got := (meaning{path.Evidence.Outcome, path.Reason}); got != want {
		t.Errorf("%s: %v, want %v (%s)", expected, got, want, path.Message)
	}
	if path.Evidence.Observed != word {
		t.Errorf("%s: observed %q, want %q", expected, path.Evidence.Observed, word)
	}
	if path.Message == "" {
		t.Errorf("%s: no message", expected)
	}
	statuses := map[api.Outcome]metav1.ConditionStatus{
		api.OutcomeMatch: metav1.ConditionTrue, api.OutcomeMismatch: metav1.ConditionFalse, api.OutcomeUnknown: metav1.ConditionUnknown,
	}
	if path.Status != statuses[want.outcome] {
		t.Errorf("%s: status %s for outcome %s", expected, path.Status, want.outcome)
	}
}

// Whatever combination of class and certificate comes in, there is one way to pass for each expectation.
func TestThereIsOneWayToPass(t *testing.T) {
	leaves := map[string]*observation.Certificate{
		"none": nil, "nginx": nginxLeaf, "sidecar": sidecarLeaf, "neighbour": neighbourLeaf, "foreign": foreignLeaf,
	}
	for class, row := range classes {
		for whose, leaf := range leaves {
			result := row.result
			result.Seen.Leaf = leaf
			wantPass := class == observation.Answered && whose == "nginx"
			if got := judge(permissive, api.PathOutsider, run(served, served, result)); (got.Status == metav1.ConditionTrue) != wantPass {
				t.Errorf("%s with certificate of %s where 200 is expected: %s %s", class, whose, got.Status, got.Reason)
			}
			wantPass = class == observation.ClientCertificateRequired && whose == "sidecar"
			if got := judge(strict, api.PathOutsider, run(served, turnedAway, result)); (got.Status == metav1.ConditionTrue) != wantPass {
				t.Errorf("%s with certificate of %s where refused is expected: %s %s", class, whose, got.Status, got.Reason)
			}
		}
	}
}

// The server's own certificate is proof enough: what ended the connection after it changes nothing.
func TestTheServersCertificateOnAnExpectedRefusalIsAMismatch(t *testing.T) {
	for class, row := range classes {
		result := row.result
		result.Seen.Leaf = nginxLeaf
		got := judge(strict, api.PathIstioProxy, run(served, result, turnedAway))
		if got.Status != metav1.ConditionFalse || got.Reason != api.ReasonMTLSNotEnforced {
			t.Errorf("%s: %s %s, want False %s", class, got.Status, got.Reason, api.ReasonMTLSNotEnforced)
		}
	}
}

// An agent newer than the operator may know classes that the operator does not.
func TestAnUnknownClassIsUnknown(t *testing.T) {
	for _, class := range []observation.Class{"", "SomethingNew"} {
		result := saw(class, sidecarLeaf)
		broken := observation.Run{Results: map[string]observation.Result{"sleep": served, "istio-proxy": turnedAway, "outsider": result}}
		wantMeaning(t, "expected 200", judge(permissive, api.PathOutsider, broken), notProbed, "not probed")
		wantMeaning(t, "expected refused", judge(strict, api.PathOutsider, broken), notProbed, "not probed")
	}
}

func TestWhatCouldNotBeAskedIsUnknown(t *testing.T) {
	kinds := map[observation.FailureKind]string{
		observation.NoVantage:     api.ReasonNotProbed,
		observation.ExecForbidden: api.ReasonExecForbidden,
		observation.ExecFailed:    api.ReasonNotProbed,
		observation.AgentSilent:   api.ReasonNotProbed,
	}
	for kind, reason := range kinds {
		result := failed(kind, "because")
		for _, path := range []verdict.Path{
			judge(permissive, api.PathOutsider, run(served, served, result)),
			judge(strict, api.PathOutsider, run(served, turnedAway, result)),
		} {
			wantMeaning(t, string(kind), path, meaning{api.OutcomeUnknown, reason}, "not probed")
			if path.Message != "because" {
				t.Errorf("%s: message %q does not tell the cause", kind, path.Message)
			}
		}
	}
	wantMeaning(t, "no result", judge(strict, api.PathOutsider, run(served, turnedAway, unasked)), notProbed, "not probed")
}
