package verdict

import (
	"fmt"
	"slices"
	"strings"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// route holds where the client's Envoy sent a request, and where it is configured to send such requests, against the
// Service that was asked for: who answered, and how the request travelled.
func (c Criteria) route(expected expectation.Expectation, seen observation.Observation) claims {
	if Word(seen) == notProbed {
		return nil
	}
	if expected.Kind == expectation.Refusal {
		// The server's sidecar says itself who it is; only the requests that are led elsewhere do not come to it.
		if led := c.ledTo(seen.Delivered); led.proof {
			return claims{led}
		}
		return nil
	}
	found := claims{c.sentTo(seen), c.ledTo(seen.Delivered)}
	if expected.Encryption != "" {
		found = append(found, c.travelled(expected, seen))
		if led, ok := c.ledHow(expected, seen.Delivered); ok {
			found = append(found, led)
		}
	}
	return found
}

// own says whether a cluster is the Service's.
func (c Criteria) own(cluster string) bool {
	parsed, ok := observation.ParseCluster(cluster)
	return ok && parsed.Host == c.Service.Host && parsed.Port == c.Service.Port
}

func (c Criteria) sentTo(seen observation.Observation) claim {
	const who = api.QuestionWho
	sent := seen.Sent
	switch {
	case sent == nil:
		return unknown(who, api.ReasonNotAttributed, "the agent did not say where the client's Envoy sent the request")
	case sent.Error != "":
		return unknown(who, api.ReasonNotAttributed, "where the client's Envoy sent the request is not known: "+sent.Error)
	case sent.Cluster == "" && !sent.Past:
		return unknown(who, api.ReasonNotAttributed, "the agent did not say to which cluster the client's Envoy sent the request")
	case sent.Past && seen.Leaf == nil && seen.Class != observation.NotTLS:
		return unknown(who, api.ReasonNotAttributed, "the client's Envoy counted no connection for the request, and nothing came back")
	case sent.Past:
		return shown(who, "the request went past the client's Envoy, straight to the Service's address")
	case c.own(sent.Cluster):
		return shown(who, "the client's Envoy sent the request to the Service's own cluster")
	case sent.Cluster == observation.ClusterPassthrough:
		return shown(who, "the client's Envoy knows no such Service and passed the request on to the address that was asked")
	default:
		return proven(who, api.ReasonLedElsewhere, fmt.Sprintf("the client's Envoy sent the request to %s%s", elsewhere(sent.Cluster), by(seen.Delivered)))
	}
}

// hostNamed names the host that Envoy sent to: a pod of the Service's where one has that address.
func (c Criteria) hostNamed(sent observation.Sent) string {
	switch name := c.Service.Endpoints[sent.Host]; {
	case sent.Host == "":
		return "the Service"
	case name == "":
		return sent.Host + ", an endpoint that only Istio knows"
	case name == sent.Host:
		return name
	default:
		return fmt.Sprintf("%s (%s)", name, sent.Host)
	}
}

// elsewhere names a cluster for people: the Service that it stands for, where it stands for one.
func elsewhere(cluster string) string {
	if parsed, ok := observation.ParseCluster(cluster); ok {
		return fmt.Sprintf("%s, port %d", clip(parsed.Host, maxName*2), parsed.Port)
	}
	if cluster == observation.ClusterBlackHole {
		return "nowhere (" + cluster + ")"
	}
	return clip(cluster, maxName*2)
}

// by names the object behind a route.
func by(delivered *observation.Delivered) string {
	if delivered == nil || delivered.Config == "" {
		return ""
	}
	return ": " + ConfigObject(delivered.Config) + " leads it there"
}

// ledTo holds the delivered route against the Service: every leg must be its own. One request alone shows one leg.
func (c Criteria) ledTo(delivered *observation.Delivered) claim {
	const who = api.QuestionWho
	switch {
	case delivered == nil:
		return unknown(who, api.ReasonNotAttributed, "the agent did not say where the client's Envoy leads requests")
	case delivered.Error != "":
		return unknown(who, api.ReasonNotAttributed, "where the client's Envoy leads requests is not known: "+delivered.Error)
	case delivered.LegsLeftOut > 0:
		return unknown(who, api.ReasonNotAttributed, fmt.Sprintf("the client's Envoy leads requests to %d clusters, of which %d were looked at", len(delivered.Legs)+delivered.LegsLeftOut, len(delivered.Legs)))
	case len(delivered.Legs) == 0:
		return unknown(who, api.ReasonNotAttributed, "the agent did not say to which clusters the client's Envoy leads requests")
	}
	for _, leg := range delivered.Legs {
		if !c.own(leg.Cluster) && leg.Cluster != observation.ClusterPassthrough && !unused(delivered, leg) {
			led := proven(who, api.ReasonLedElsewhere, fmt.Sprintf("the client's Envoy is configured to lead %s of the requests to %s%s",
				share(delivered, leg), elsewhere(leg.Cluster), by(delivered)))
			led.delivered = true
			return led
		}
	}
	return shown(who, "")
}

// ledHow holds what the delivered route wraps requests in against how they should travel, for every endpoint of every leg.
func (c Criteria) ledHow(expected expectation.Expectation, delivered *observation.Delivered) (claim, bool) {
	if delivered == nil || delivered.Error != "" {
		return claim{}, false // ledTo says so
	}
	wanted := observation.TLSNone
	if expected.Encryption == api.EncryptionMutualTLS {
		wanted = observation.TLSMutual
	}
	open := shown(api.QuestionHow, "")
	for _, leg := range delivered.Legs {
		if unused(delivered, leg) {
			continue
		}
		switch {
		case leg.TLS == wanted:
		case leg.TLS != observation.TLSByEndpoint:
			return ledWrong(wanted, delivered, leg, observation.LegEndpoint{TLS: leg.TLS}, ""), true
		case leg.EndpointsLeftOut > 0 && leg.LeftOutTLS != wanted || len(leg.Endpoints) == 0:
			open = unknown(api.QuestionHow, api.ReasonNotAttributed, fmt.Sprintf("how the client's Envoy sends requests depends on the endpoint, and of %d endpoints of %s it told of %d",
				len(leg.Endpoints)+leg.EndpointsLeftOut, elsewhere(leg.Cluster), len(leg.Endpoints)))
		}
		if leg.TLS != observation.TLSByEndpoint {
			continue
		}
		for _, endpoint := range leg.Endpoints {
			if endpoint.TLS == wanted {
				continue
			}
			named := endpoint.Address
			if c.own(leg.Cluster) {
				named = c.hostNamed(observation.Sent{Host: endpoint.Address})
			}
			return ledWrong(wanted, delivered, leg, endpoint, named), true
		}
	}
	return open, true
}

func ledWrong(wanted observation.LegTLS, delivered *observation.Delivered, leg observation.Leg, found observation.LegEndpoint, endpoint string) claim {
	to := elsewhere(leg.Cluster)
	if leg.Cluster == observation.ClusterPassthrough {
		to = "where they are addressed (" + leg.Cluster + "), because it knows no such Service"
	}
	if endpoint != "" {
		to += ", endpoint " + endpoint
	}
	names := by(delivered)
	if leg.Config != "" {
		names += "; " + ConfigObject(leg.Config) + " shapes it"
	}
	var wrong claim
	switch {
	case found.TLS != observation.TLSNone && found.TLS != observation.TLSMutual && found.TLS != observation.TLSOther:
		return unknown(api.QuestionHow, api.ReasonNotAttributed,
			fmt.Sprintf("the agent reported %q of how the client's Envoy sends requests to %s, which this operator does not know", clip(string(found.TLS), maxName), to))
	case wanted == observation.TLSMutual:
		wrong = proven(api.QuestionHow, api.ReasonPlaintextInMesh,
			fmt.Sprintf("the client's Envoy is configured to send requests without mutual TLS to %s%s", to, names))
	default:
		wrong = proven(api.QuestionHow, api.ReasonUnexpectedMutualTLS,
			fmt.Sprintf("the client's Envoy is configured to send requests in TLS of its own to %s%s", to, names))
	}
	wrong.delivered = true
	return wrong
}

// travelled holds how this request was sent against how it should have been.
func (c Criteria) travelled(expected expectation.Expectation, seen observation.Observation) claim {
	const how = api.QuestionHow
	switch sent := encryption(seen); {
	case sent == api.EncryptionUnknown:
		return unknown(how, api.ReasonNotAttributed, whyUncounted(seen))
	case sent == expected.Encryption && sent == api.EncryptionMutualTLS:
		return shown(how, "sent by mutual TLS: the counters of the client's Envoy show a handshake")
	case sent == expected.Encryption:
		return shown(how, "sent without mutual TLS: "+whyPlain(seen))
	case sent == api.EncryptionPlaintext:
		return proven(how, api.ReasonPlaintextInMesh, fmt.Sprintf("the request (%s) was sent without mutual TLS: %s%s", Word(seen), whyPlain(seen), by(seen.Delivered)))
	default:
		return proven(how, api.ReasonUnexpectedMutualTLS, fmt.Sprintf("the request (%s) was sent by mutual TLS: the counters of the client's Envoy show a handshake%s", Word(seen), by(seen.Delivered)))
	}
}

func whyPlain(seen observation.Observation) string {
	switch {
	case seen.Sent.Past:
		return "it went past the client's Envoy, none of whose counters moved"
	case seen.Sent.Cluster == observation.ClusterPassthrough:
		return "the client's Envoy knows no such Service and passed it on as it was (" + observation.ClusterPassthrough + ")"
	default:
		return "the counters of the client's Envoy show a connection and no handshake"
	}
}

func whyUncounted(seen observation.Observation) string {
	if seen.Sent == nil || seen.Sent.Error == "" {
		return "how the client's Envoy sent the request cannot be told from a connection that brought nothing back"
	}
	return "how the client's Envoy sent the request is not known: " + seen.Sent.Error
}

// encryption is how the request left the client's pod.
func encryption(seen observation.Observation) api.Encryption {
	switch {
	case seen.Sent != nil && seen.Sent.Cluster == "" && !seen.Sent.Past:
		return api.EncryptionUnknown
	case seen.Wrapping() == observation.PassedOn && (seen.Leaf != nil || seen.Class == observation.NotTLS):
		// Something came back through the connection. Where nothing did, Envoy's own handshake may have failed, which it
		// counts as little as none.
		return api.EncryptionPlaintext
	case seen.Wrapping() == observation.WrappedInTLS && (seen.Class == observation.Answered || wrapsMutually(seen)):
		// Only a sidecar that took the mesh's certificate can have passed the request on to the server.
		return api.EncryptionMutualTLS
	default:
		return api.EncryptionUnknown
	}
}

// wrapsMutually says whether Envoy is configured to send by mutual TLS alone to the cluster that took the request.
func wrapsMutually(seen observation.Observation) bool {
	if seen.Delivered == nil {
		return false
	}
	for _, leg := range seen.Delivered.Legs {
		if leg.Cluster != seen.Sent.Cluster {
			continue
		}
		for _, endpoint := range leg.Endpoints {
			if endpoint.Address == seen.Sent.Host {
				return endpoint.TLS == observation.TLSMutual
			}
		}
		return leg.TLS == observation.TLSMutual
	}
	return false
}

// Delivered is the delivered route for the status; nil where a run did not ask for it.
func Delivered(run observation.Run) *api.DeliveredStatus {
	delivered := run.Results[string(meshPath)].Seen.Delivered
	if delivered == nil {
		return nil
	}
	if delivered.Error != "" {
		return &api.DeliveredStatus{Message: clip("not known: "+delivered.Error, maxEvidence)}
	}
	status := &api.DeliveredStatus{Object: clip(ConfigObject(delivered.Config), maxObject)}
	for _, leg := range delivered.Legs[:min(len(delivered.Legs), maxLegs)] {
		told := api.DeliveredLeg{
			Cluster: clip(leg.Cluster, maxObject), Percent: int32(percent(delivered, leg)), Object: clip(ConfigObject(leg.Config), maxObject),
			Endpoints: int32(len(leg.Endpoints) + leg.EndpointsLeftOut),
		}
		for _, endpoint := range leg.Endpoints {
			if endpoint.TLS == observation.TLSMutual {
				told.MutualTLS++
			}
		}
		if leg.LeftOutTLS == observation.TLSMutual {
			told.MutualTLS += int32(leg.EndpointsLeftOut)
		}
		status.Legs = append(status.Legs, told)
	}
	return status
}

// unused says whether no request is led to a leg.
func unused(delivered *observation.Delivered, leg observation.Leg) bool {
	return leg.Weight == 0 && weights(delivered) > 0
}

// share words how many of the requests are led to a leg.
func share(delivered *observation.Delivered, leg observation.Leg) string {
	if part := percent(delivered, leg); part > 0 {
		return fmt.Sprintf("%d %%", part)
	}
	return "less than 1 %"
}

func weights(delivered *observation.Delivered) uint64 {
	var sum uint64
	for _, one := range delivered.Legs {
		sum += uint64(one.Weight)
	}
	return sum
}

func percent(delivered *observation.Delivered, leg observation.Leg) int {
	sum := weights(delivered)
	if sum == 0 {
		return 100 / max(len(delivered.Legs), 1)
	}
	return int(uint64(leg.Weight) * 100 / sum)
}

// ConfigObject words an object as Istio names it in Envoy's metadata,
// /apis/networking.istio.io/v1/namespaces/shop/virtual-service/lead, as "VirtualService shop/lead". What has another form
// is left as it is.
func ConfigObject(config string) string {
	parts := strings.Split(strings.TrimPrefix(config, "/"), "/")
	if len(parts) != 7 || parts[0] != "apis" || parts[3] != "namespaces" {
		return config
	}
	var kind strings.Builder
	for _, word := range strings.Split(parts[5], "-") {
		if word != "" {
			kind.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return fmt.Sprintf("%s %s/%s", kind.String(), parts[4], parts[6])
}

// OwnAddresses are the endpoints that the client's Envoy has been told of in the Service's own clusters.
func (c Criteria) OwnAddresses(delivered *observation.Delivered) []string {
	var addresses []string
	for _, leg := range delivered.Legs {
		if !c.own(leg.Cluster) {
			continue
		}
		for _, endpoint := range leg.Endpoints {
			if !slices.Contains(addresses, endpoint.Address) {
				addresses = append(addresses, endpoint.Address)
			}
		}
	}
	return addresses
}
