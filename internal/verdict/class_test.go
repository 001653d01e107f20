package verdict_test

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

var (
	noConnection = differs(api.ReasonNoConnection)
	timedOut     = differs(api.ReasonTimedOut)
	broken       = differs(api.ReasonConnectionBroken)
	notTLS       = differs(api.ReasonNotTLS)
	unexpected   = differs(api.ReasonUnexpectedAnswer)
	asDeclared   = matches(api.ReasonFailedAsDeclared)
)

// classes says of every class what it means where nobody has shown the server's own certificate, but for Answered,
// which is answered by the server, and ClientCertificateRequired, which comes from its sidecar. The meanings are those
// where an answer, a refusal, and a failure between the client's sidecar and the server are expected.
var classes = map[observation.Class]struct {
	result                       observation.Result
	word                         string
	wantAnswer, wantRef, wantEnd meaning
}{
	observation.Answered: {served, "200",
		matches(api.ReasonAnswered), differs(api.ReasonMTLSNotEnforced), unexpected},
	observation.ClientCertificateRequired: {turnedAway, "refused",
		differs(api.ReasonRefused), matches(api.ReasonRefusedByMesh), unexpected},
	observation.ClosedAfterCertificateRequest: {asking(saw(observation.ClosedAfterCertificateRequest, sidecarLeaf)), "closed", broken, inconclusive, unexpected},
	observation.NameNotResolved:               {saw(observation.NameNotResolved, nil), "not probed", notProbed, notProbed, notProbed},
	observation.ConnectionRefused:             {saw(observation.ConnectionRefused, nil), "no connection", noConnection, inconclusive, inconclusive},
	observation.Unreachable:                   {saw(observation.Unreachable, nil), "no connection", noConnection, inconclusive, inconclusive},
	observation.ConnectTimeout:                {saw(observation.ConnectTimeout, nil), "timeout", noConnection, inconclusive, inconclusive},
	observation.NotTLS:                        {saw(observation.NotTLS, nil), "no TLS", notTLS, notTLS, asDeclared},
	observation.Alerted:                       {alerted(asking(saw(observation.Alerted, sidecarLeaf)), "internal_error"), "alert", inconclusive, inconclusive, unexpected},
	observation.HandshakeTimeout:              {saw(observation.HandshakeTimeout, nil), "timeout", timedOut, inconclusive, inconclusive},
	observation.HandshakeClosed:               {saw(observation.HandshakeClosed, nil), "closed", broken, inconclusive, asDeclared},
	observation.HandshakeReset:                {saw(observation.HandshakeReset, nil), "reset", broken, inconclusive, asDeclared},
	observation.HandshakeFailed:               {saw(observation.HandshakeFailed, nil), "no handshake", inconclusive, inconclusive, inconclusive},
	observation.ResponseTimeout:               {asking(saw(observation.ResponseTimeout, sidecarLeaf)), "timeout", timedOut, inconclusive, unexpected},
	observation.ResponseClosed:                {asking(saw(observation.ResponseClosed, sidecarLeaf)), "closed", broken, inconclusive, unexpected},
	observation.ResponseReset:                 {asking(saw(observation.ResponseReset, sidecarLeaf)), "reset", broken, inconclusive, unexpected},
	observation.NotHTTP:                       {asking(saw(observation.NotHTTP, sidecarLeaf)), "no HTTP", unexpected, inconclusive, unexpected},
	observation.Handshaken:                    {asking(saw(observation.Handshaken, sidecarLeaf)), "handshake", unexpected, inconclusive, unexpected},
	observation.InvalidRequest:                {saw(observation.InvalidRequest, nil), "not probed", notProbed, notProbed, notProbed},
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
			wantMeaning(t, "expected no answer", judge(permissiveSimple, api.PathSleep, run(row.result, served, served)), row.wantEnd, row.word)
		})
	}
}

// The class alone must not be what proves a failure between the client's sidecar and the server.
func TestWithoutACertificateFewEndsAreFailuresAsDeclared(t *testing.T) {
	for class, row := range classes {
		result := row.result
		result.Seen.Leaf, result.Seen.CertificateRequested = nil, false
		want := class == observation.HandshakeClosed || class == observation.HandshakeReset || class == observation.NotTLS
		if got := judge(permissiveSimple, api.PathSleep, run(result, served, served)); (got.Status == metav1.ConditionTrue) != want {
			t.Errorf("%s: %s %s (%s)", class, got.Status, got.Reason, got.Message)
		}
	}
}

// A server that takes TLS in TLS reads the client's own as HTTP and says so. Only if the client's Envoy has counted a
// handshake is that what was declared.
func TestNoTLSIsAFailureAsDeclaredOnlyInsideOfTLS(t *testing.T) {
	for name, c := range map[string]struct {
		sent *observation.Sent
		want meaning
	}{
		"wrapped": {wrapped, asDeclared}, "passed on": {passedOn, inconclusive}, "not known": {&observation.Sent{Error: "no answer"}, open(api.ReasonNotAttributed)},
	} {
		got := judge(permissiveSimple, api.PathSleep, run(sent(saw(observation.NotTLS, nil), c.sent, toMutual), served, served))
		wantMeaning(t, name, got, c.want, "no TLS")
	}
}

// A person reads how a request ended, and reads the same of no other end.
func TestEveryEndIsWorded(t *testing.T) {
	told := map[string]observation.Class{}
	for class, row := range classes {
		message, _, _ := strings.Cut(judge(permissive, api.PathOutsider, run(served, served, row.result)).Message, "; expected")
		if strings.Contains(message, "nothing was observed") {
			t.Errorf("%s is told as %q", class, message)
		}
		if other, taken := told[message]; taken && row.wantAnswer != notProbed {
			t.Errorf("%s and %s are both told as %q", class, other, message)
		}
		told[message] = class
	}
}

// The server's own certificate is proof enough: what ended the connection after it changes nothing.
func TestTheServersCertificateOnAnExpectedRefusalIsAMismatch(t *testing.T) {
	for class, row := range classes {
		if row.wantAnswer == notProbed || class == observation.NotTLS {
			continue // no certificate was shown
		}
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
		result.Seen.Sent = wrapped
		broken.Results["sleep"], broken.Results["istio-proxy"] = result, served
		wantMeaning(t, "expected no answer", judge(permissiveSimple, api.PathSleep, broken), notProbed, "not probed")
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
			judge(permissiveSimple, api.PathSleep, run(result, served, served)),
		} {
			wantMeaning(t, string(kind), path, meaning{api.OutcomeUnknown, reason}, "not probed")
			if path.Message != "because" {
				t.Errorf("%s: message %q does not tell the cause", kind, path.Message)
			}
		}
	}
	wantMeaning(t, "no result", judge(strict, api.PathOutsider, run(served, turnedAway, unasked)), notProbed, "not probed")
}
