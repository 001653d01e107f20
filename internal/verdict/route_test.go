package verdict_test

import (
	"strings"
	"testing"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/verdict"
)

const otherCluster = "outbound|443||other.shop.svc.cluster.local"

// weighted is a leg of a weight.
func weighted(weight uint32, cluster string, tls observation.LegTLS, endpoints ...observation.LegEndpoint) observation.Leg {
	return observation.Leg{Cluster: cluster, Weight: weight, TLS: tls, Endpoints: endpoints}
}

func TestRoute(t *testing.T) {
	mixed := weighted(1, ownCluster, observation.TLSByEndpoint, observation.LegEndpoint{Address: firstHost, TLS: observation.TLSMutual}, observation.LegEndpoint{Address: secondHost, TLS: observation.TLSNone})
	leftOut := leg(observation.TLSByEndpoint)
	leftOut.Endpoints, leftOut.EndpointsLeftOut = []observation.LegEndpoint{{Address: firstHost, TLS: observation.TLSMutual}}, 1
	manyAlike := leg(observation.TLSMutual)
	manyAlike.EndpointsLeftOut = 300
	someLegs := legs(leg(observation.TLSMutual))
	someLegs.LegsLeftOut = 1
	subset := func(name string, tls observation.LegTLS, weight uint32) observation.Leg {
		return weighted(weight, "outbound|443|"+name+"|"+ownHost, tls)
	}
	passthrough := weighted(1, observation.ClusterPassthrough, observation.TLSNone)
	bySubset := *wrapped
	bySubset.Cluster = "outbound|443|v1|" + ownHost
	plaintext, mutual := differs(api.ReasonPlaintextInMesh), differs(api.ReasonUnexpectedMutualTLS)
	elsewhere, good := differs(api.ReasonLedElsewhere), matches(api.ReasonAnswered)
	for name, c := range map[string]struct {
		sent      *observation.Sent
		delivered *observation.Delivered
		// The meanings where mutual TLS and where plaintext is declared.
		wantMutual, wantPlain meaning
	}{
		"by mutual TLS":                    {wrapped, toMutual, good, mutual},
		"as it was":                        {passedOn, toPlain, plaintext, good},
		"configured otherwise than sent":   {wrapped, toPlain, plaintext, mutual},
		"sent otherwise than configured":   {passedOn, toMutual, plaintext, mutual},
		"past Envoy":                       {past, toMutual, plaintext, mutual},
		"past Envoy, which knows nothing":  {past, legs(passthrough), plaintext, good},
		"passed on, knowing no Service":    {&observation.Sent{Cluster: observation.ClusterPassthrough, Host: firstHost}, legs(passthrough), plaintext, good},
		"nowhere":                          {&observation.Sent{Cluster: observation.ClusterBlackHole}, legs(weighted(1, observation.ClusterBlackHole, observation.TLSNone)), elsewhere, elsewhere},
		"to another Service":               {&observation.Sent{Cluster: otherCluster, Host: "10.0.0.9:443", Handshakes: 1}, toMutual, elsewhere, elsewhere},
		"to another port":                  {&observation.Sent{Cluster: "outbound|8443||" + ownHost, Host: firstHost, Handshakes: 1}, toMutual, elsewhere, elsewhere},
		"to a cluster of no Service":       {&observation.Sent{Cluster: "inbound|443||"}, toMutual, elsewhere, elsewhere},
		"some of them to another Service":  {wrapped, legs(weighted(999, ownCluster, observation.TLSMutual), weighted(1, otherCluster, observation.TLSMutual)), elsewhere, elsewhere},
		"none of them to another Service":  {wrapped, legs(weighted(100, ownCluster, observation.TLSMutual), weighted(0, otherCluster, observation.TLSNone)), good, mutual},
		"to a subset":                      {&bySubset, legs(subset("v1", observation.TLSMutual, 1)), good, mutual},
		"one subset in plaintext":          {&bySubset, legs(subset("v1", observation.TLSMutual, 80), subset("v2", observation.TLSNone, 20)), plaintext, mutual},
		"one endpoint in plaintext":        {wrapped, legs(mixed), plaintext, mutual},
		"an endpoint of which nobody told": {wrapped, legs(leftOut), notKnown, mutual},
		"endpoints that are all alike":     {wrapped, legs(manyAlike), good, mutual},
		"endpoints and none told":          {wrapped, legs(weighted(1, ownCluster, observation.TLSByEndpoint)), notKnown, mutual},
		"in TLS of another sort":           {wrapped, legs(leg(observation.TLSOther)), plaintext, mutual},
		"some in TLS of another sort":      {passedOn, legs(subset("v1", observation.TLSNone, 80), subset("v2", observation.TLSOther, 20)), plaintext, mutual},
		"in TLS that nobody knows":         {passedOn, legs(leg("Quantum")), plaintext, notKnown},
		"legs left out":                    {wrapped, someLegs, notKnown, mutual},
		"no legs":                          {wrapped, legs(), notKnown, mutual},
		"configuration not read":           {wrapped, &observation.Delivered{Error: "no answer"}, notKnown, mutual},
		"configuration not asked for":      {wrapped, nil, notKnown, mutual},
		"counters not read":                {&observation.Sent{Cluster: ownCluster, Handshakes: 1, Error: "no answer"}, toMutual, notKnown, mutual},
		"counters not asked for":           {nil, toMutual, notKnown, mutual},
		"counters of no cluster":           {&observation.Sent{}, toMutual, notKnown, mutual},
	} {
		for declared, want := range map[string]meaning{"mutual TLS": c.wantMutual, "plaintext": c.wantPlain} {
			expected, endpoint := permissive, sent(served, c.sent, c.delivered)
			if declared == "plaintext" {
				expected = promised(api.MTLSPermissive, api.ClientTLSDisable)
			}
			one := run(endpoint, served, served)
			one.Results[string(api.PathSleep)] = endpoint
			wantMeaning(t, name+", declared "+declared, judge(expected, api.PathSleep, one), want, "200")
		}
	}
}

// A refusal says itself who refused, of the requests that come there; the others are led elsewhere.
func TestARefusalThroughTheMesh(t *testing.T) {
	for name, c := range map[string]struct {
		delivered *observation.Delivered
		want      meaning
	}{
		"all come there": {toPlain, matches(api.ReasonRefusedByMesh)}, "not known": {nil, matches(api.ReasonRefusedByMesh)},
		"some are led elsewhere": {legs(weighted(80, ownCluster, observation.TLSNone), weighted(20, otherCluster, observation.TLSNone)), differs(api.ReasonLedElsewhere)},
	} {
		got := judge(strictPlain, api.PathSleep, run(sent(turnedAway, passedOn, c.delivered), turnedAway, turnedAway))
		wantMeaning(t, name, got, c.want, "refused")
	}
}

// A handshake of Envoy's own that failed is counted as a connection without one, just as plaintext is. It is plaintext only
// where the peer's bytes came back through it.
func TestAFailedHandshakeIsNotPlaintext(t *testing.T) {
	for class, row := range classes {
		for _, leaf := range []*observation.Certificate{nil, sidecarLeaf, nginxLeaf} {
			result := sent(row.result, passedOn, toMutual)
			result.Seen.Leaf = leaf
			want := api.EncryptionUnknown
			if leaf != nil || class == observation.NotTLS {
				want = api.EncryptionPlaintext
			}
			if got := judge(permissiveSimple, api.PathSleep, run(result, served, served)).Evidence.Encryption; got != want {
				t.Errorf("%s with certificate %v: %s, want %s", class, leaf != nil, got, want)
			}
		}
		// Where Envoy is configured to send by mutual TLS, a handshake of its own was one; where that is not known, only an
		// answer shows that the server's sidecar took it.
		for delivered, known := range map[*observation.Delivered]bool{toMutual: true, nil: false, legs(leg(observation.TLSOther)): false} {
			want := api.EncryptionUnknown
			if class == observation.Answered || known {
				want = api.EncryptionMutualTLS
			}
			one := run(served, served, served)
			one.Results[string(api.PathSleep)] = sent(row.result, wrapped, delivered)
			if got := judge(permissiveSimple, api.PathSleep, one).Evidence.Encryption; got != want {
				t.Errorf("%s, wrapped, known %v: %s, want %s", class, known, got, want)
			}
		}
	}
}

func TestTheRouteIsNamed(t *testing.T) {
	shaped := leg(observation.TLSNone)
	shaped.Config = "/apis/networking.istio.io/v1/namespaces/shop/destination-rule/plain"
	for name, c := range map[string]struct {
		sleep observation.Result
		says  []string
	}{
		"a VirtualService":  {sent(served, wrapped, ledByVirtualService), []string{"30 %", "other.shop.svc.cluster.local, port 443", "VirtualService shop/lead"}},
		"hardly any":        {sent(served, wrapped, legs(weighted(9999, ownCluster, observation.TLSMutual), weighted(1, otherCluster, observation.TLSMutual))), []string{"less than 1 %"}},
		"a DestinationRule": {sent(served, passedOn, legs(shaped)), []string{"DestinationRule shop/plain shapes it", "without mutual TLS"}},
		"an endpoint": {sent(served, wrapped, legs(weighted(1, ownCluster, observation.TLSByEndpoint, observation.LegEndpoint{Address: secondHost, TLS: observation.TLSNone}))),
			[]string{"endpoint nginx-1 (10.0.0.2:8443)"}},
		"an endpoint of Istio's": {sent(served, wrapped, legs(weighted(1, ownCluster, observation.TLSByEndpoint, observation.LegEndpoint{Address: "10.9.9.9:443", TLS: observation.TLSNone}))),
			[]string{"10.9.9.9:443, an endpoint that only Istio knows"}},
		"passthrough": {sent(served, &observation.Sent{Cluster: observation.ClusterPassthrough, Host: firstHost}, toMutual), []string{"knows no such Service", "PassthroughCluster"}},
		"past it":     {sent(served, past, toMutual), []string{"went past the client's Envoy"}},
	} {
		got := judge(permissive, api.PathSleep, run(c.sleep, served, served))
		var claims strings.Builder
		for _, claim := range got.Evidence.Claims {
			claims.WriteString(claim.Evidence + "\n")
		}
		for _, part := range c.says {
			if !strings.Contains(got.Message+claims.String(), part) {
				t.Errorf("%s: %q and %q lack %q", name, got.Message, claims.String(), part)
			}
		}
	}
}

func TestConfigObject(t *testing.T) {
	for config, want := range map[string]string{
		"/apis/networking.istio.io/v1/namespaces/shop/virtual-service/lead": "VirtualService shop/lead",
		"/apis/networking.istio.io/v1/namespaces/a/destination-rule/b":      "DestinationRule a/b",
		"/apis/networking.istio.io/v1/namespaces/a/sidecar/b":               "Sidecar a/b",
		"/apis/networking.istio.io/v1/namespaces/a/-x--y-/b":                "XY a/b",
		"something else": "something else", "": "", "/": "/", "//////": "//////",
	} {
		if got := verdict.ConfigObject(config); got != want {
			t.Errorf("%q: %q, want %q", config, got, want)
		}
	}
}

func TestDelivered(t *testing.T) {
	got := verdict.Delivered(run(sent(served, wrapped, ledByVirtualService), served, served))
	if got == nil || got.Object != "VirtualService shop/lead" || len(got.Legs) != 2 || got.Legs[0].Percent != 70 || got.Legs[0].MutualTLS != 2 || got.Legs[1].MutualTLS != 0 {
		t.Errorf("%+v", got)
	}
	if got := verdict.Delivered(run(sent(served, wrapped, nil), served, served)); got != nil {
		t.Errorf("not asked: %+v", got)
	}
	if got := verdict.Delivered(run(sent(served, wrapped, &observation.Delivered{Error: "garbage"}), served, served)); got == nil || got.Message != "not known: garbage" {
		t.Errorf("not known: %+v", got)
	}
	if got := verdict.Delivered(observation.Run{}); got != nil {
		t.Errorf("no run: %+v", got)
	}
}

// Only the path through the mesh shows how a request was sent.
func TestOnlySleepShowsAnEncryption(t *testing.T) {
	paths := after(criteria(strict), run(through, sent(turnedAway, passedOn, toPlain), sent(turnedAway, wrapped, nil)))
	for _, path := range paths[1:] {
		if path.Evidence.Encryption != "" || path.Evidence.SentTo != "" || path.Reason != api.ReasonRefusedByMesh {
			t.Errorf("%s: %q %s", path.Evidence.Name, path.Evidence.Encryption, path.Status)
		}
	}
	if lost := judge(strict, api.PathSleep, run(failed(observation.ExecFailed, "broken"), turnedAway, turnedAway)); lost.Evidence.Encryption != "" {
		t.Errorf("a request that was not sent: %s", lost.Evidence.Encryption)
	}
}

// Of an empty promise nothing is shown, whatever is seen.
func TestNothingIsVerifiedWhereNothingIsDeclared(t *testing.T) {
	for _, declared := range []expectation.Expectations{nil, {}} {
		for _, path := range after(criteria(declared), run(through, served, served)) {
			wantMeaning(t, string(path.Evidence.Name), path, inconclusive, "200")
		}
	}
	for _, path := range after(verdict.Criteria{}, run(through, beside(served, notAsked("a")), served), observation.Run{Started: firstRun}) {
		if path.Status != "Unknown" {
			t.Errorf("%s: %s %s", path.Evidence.Name, path.Status, path.Message)
		}
	}
}
