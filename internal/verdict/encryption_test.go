package verdict_test

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s.io/apimachinery/pkg/util/intstr"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// Counters that say nothing: of no request, of several, or not read.
var uncounted = map[string]*observation.Counted{
	"not asked":            nil,
	"none":                 {},
	"two connections":      {Connections: 2, Handshakes: 1},
	"two in plaintext":     {Connections: 2},
	"not read":             {Connections: 1, Error: "no answer in time"},
	"somebody else's":      {Passthrough: 1, PassthroughShared: true},
	"more handshakes":      {Connections: 1, Handshakes: 2},
	"a connection besides": {Connections: 1, Passthrough: 1},
}

func TestPlaintextWhereMutualTLSIsExpected(t *testing.T) {
	plaintextInMesh := meaning{api.OutcomeMismatch, api.ReasonPlaintextInMesh}
	for name, counted := range map[string]*observation.Counted{
		"passed on": passedOn, "through PassthroughCluster": {Passthrough: 1},
	} {
		one := run(counting(served, counted), turnedAway, turnedAway)
		got := judge(strict, api.PathSleep, one)
		wantMeaning(t, name, got, plaintextInMesh, "200")
		if got.Evidence.Encryption != api.EncryptionPlaintext || !strings.Contains(got.Message, "without mutual TLS") {
			t.Errorf("%s: %s, %s", name, got.Evidence.Encryption, got.Message)
		}
		got = judge(permissive, api.PathSleep, run(counting(served, counted), served, served))
		wantMeaning(t, name+", PERMISSIVE", got, plaintextInMesh, "200")
	}
}

// Counters that are not to be had are no failure: the certificate and the answer speak for themselves.
func TestUnknownEncryptionIsNoFailure(t *testing.T) {
	for name, counted := range uncounted {
		got := judge(strict, api.PathSleep, run(counting(served, counted), turnedAway, turnedAway))
		wantMeaning(t, name, got, meaning{api.OutcomeMatch, api.ReasonAnswered}, "200")
		if got.Evidence.Encryption != api.EncryptionUnknown {
			t.Errorf("%s: %s", name, got.Evidence.Encryption)
		}
	}
}

func TestMutualTLSIsShown(t *testing.T) {
	got := judge(strict, api.PathSleep, run(counting(served, wrapped), turnedAway, turnedAway))
	wantMeaning(t, "wrapped", got, meaning{api.OutcomeMatch, api.ReasonAnswered}, "200")
	if got.Evidence.Encryption != api.EncryptionMutualTLS {
		t.Errorf("%s", got.Evidence.Encryption)
	}
}

// Where plaintext is what the modes promise, it is no finding.
func TestPlaintextWhereItIsExpected(t *testing.T) {
	plain := promised(api.MTLSPermissive, api.ClientTLSDisable)
	got := judge(plain, api.PathSleep, run(counting(served, passedOn), served, served))
	wantMeaning(t, "PERMISSIVE", got, meaning{api.OutcomeMatch, api.ReasonAnswered}, "200")
	got = judge(promised(api.MTLSDisable, api.ClientTLSUnset), api.PathSleep, run(counting(served, passedOn), served, served))
	wantMeaning(t, "DISABLE", got, meaning{api.OutcomeMatch, api.ReasonAnswered}, "200")
	if got.Evidence.Encryption != api.EncryptionPlaintext {
		t.Errorf("%s", got.Evidence.Encryption)
	}
}

// The wrong code, or the wrong server, says more than the encryption.
func TestPlaintextIsTheLastOfFindings(t *testing.T) {
	got := judge(strict, api.PathSleep, run(counting(answered(503, nginxLeaf), passedOn), turnedAway, turnedAway))
	wantMeaning(t, "503", got, meaning{api.OutcomeMismatch, api.ReasonUnexpectedStatusCode}, "503")
	got = judge(strict, api.PathSleep, run(counting(answered(200, foreignLeaf), passedOn), turnedAway, turnedAway))
	wantMeaning(t, "stranger", got, meaning{api.OutcomeMismatch, api.ReasonUnexpectedCertificate}, "200")
}

// An override keeps what the policy says of the encryption.
func TestOverridesKeepTheEncryption(t *testing.T) {
	expectations := promised(api.MTLSStrict, api.ClientTLSUnset)
	expectations.Override([]api.PathExpectation{{Path: api.PathSleep, See: intstr.Parse("401"), Reason: "it wants a token"}})
	got := judge(expectations, api.PathSleep, run(counting(answered(401, nginxLeaf), passedOn), turnedAway, turnedAway))
	wantMeaning(t, "401", got, meaning{api.OutcomeMismatch, api.ReasonPlaintextInMesh}, "401")
	got = judge(expectations, api.PathSleep, run(counting(answered(401, nginxLeaf), wrapped), turnedAway, turnedAway))
	wantMeaning(t, "401", got, meaning{api.OutcomeMatch, api.ReasonAnswered}, "401")
	if got.Evidence.ExpectedReason != "it wants a token" || got.Evidence.Expected != "401" {
		t.Errorf("%+v", got.Evidence)
	}
}

// A handshake of Envoy's own that failed (a DestinationRule SIMPLE whose server no system CA vouches for, or ISTIO_MUTUAL to
// a server without sidecar) is counted as a connection without one, just as plaintext is. It is plaintext only where
// the peer's bytes came back through it.
func TestAFailedHandshakeIsNotPlaintext(t *testing.T) {
	for class, row := range classes {
		for _, leaf := range []*observation.Certificate{nil, sidecarLeaf, nginxLeaf} {
			result := counting(row.result, passedOn)
			result.Seen.Leaf = leaf
			want := api.EncryptionUnknown
			if leaf != nil || class == observation.NotTLS {
				want = api.EncryptionPlaintext
			}
			if got := judge(permissiveSimple, api.PathSleep, run(result, served, served)).Evidence.Encryption; got != want {
				t.Errorf("%s with certificate %v: %s, want %s", class, leaf != nil, got, want)
			}
		}
		// Nobody but a sidecar with a certificate of the mesh passes an answer on.
		want := api.EncryptionUnknown
		if class == observation.Answered {
			want = api.EncryptionMutualTLS
		}
		if got := judge(permissiveSimple, api.PathSleep, run(counting(row.result, wrapped), served, served)).Evidence.Encryption; got != want {
			t.Errorf("%s, wrapped: %s, want %s", class, got, want)
		}
	}
}

// Only the path sleep goes through an Envoy that counts.
func TestOnlySleepShowsAnEncryption(t *testing.T) {
	one := run(counting(served, wrapped), counting(turnedAway, passedOn), counting(turnedAway, wrapped))
	for _, path := range []api.PathName{api.PathIstioProxy, api.PathOutsider} {
		got := judge(strict, path, one)
		if got.Evidence.Encryption != "" || got.Status != metav1.ConditionTrue {
			t.Errorf("%s: %q %s", path, got.Evidence.Encryption, got.Status)
		}
	}
	lost := judge(strict, api.PathSleep, run(failed(observation.ExecFailed, "broken"), turnedAway, turnedAway))
	if lost.Evidence.Encryption != "" {
		t.Errorf("a request that was not sent: %s", lost.Evidence.Encryption)
	}
}
