package verdict

import (
	"fmt"
	"strings"
	"time"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
)

// finding is what all that one run brought along one path means together.
type finding struct {
	outcome  api.Outcome
	reason   string
	message  string
	observed string
	claims   claims
	// proof says that the finding needs no repetition: something got in, or went out, that must not.
	proof bool
	// computed says that what contradicts the declaration is just what Istio computes.
	computed bool
	// result is what decided.
	result observation.Result
	// host is the endpoint to which the client's Envoy sent the request; "" where that is not known.
	host string
	// asked is when the run began in which the endpoint was last asked that has waited the longest.
	asked time.Time
	// endpoints sums up those that were dialed one by one; nil where none were.
	endpoints *api.EndpointsStatus
	// expected is what the path was held against.
	expected expectation.Expectation
}

// meshPath is the path through the client's sidecar.
var meshPath = paths.Mesh().Name

func pathNamed(name string) (paths.Path, bool) { return paths.Named(api.PathName(name)) }

// find judges one path of a run.
func (c Criteria) find(path paths.Path, run observation.Run) finding {
	result, ok := run.Results[string(path.Name)]
	if !ok {
		result.Failed = &observation.Failure{Kind: observation.NoVantage, Message: "no request was sent"}
	}
	expected, declared := c.Declared[path.Name]
	if !declared {
		return c.single(path, expected, result, nil)
	}
	found := c.single(path, expected, result, c.requestClaims(path, expected, result, run))
	found.asked = run.Started
	if computed, ok := c.Computed[path.Name]; ok && found.outcome == api.OutcomeMismatch {
		found.computed = c.requestClaims(path, coded(computed, expected), result, run).decisive().answer == api.AnswerShown
	}
	if len(result.Endpoints) > 0 {
		found = c.withEndpoints(path, found, expected, result.Endpoints)
	}
	return found
}

// coded is what is computed, with the status code that is declared: which code the server answers with is not computed.
func coded(computed, declared expectation.Expectation) expectation.Expectation {
	computed.Code = declared.Code
	return computed
}

// requestClaims are those about the request to the Service's address.
func (c Criteria) requestClaims(path paths.Path, expected expectation.Expectation, result observation.Result, run observation.Run) claims {
	if result.Failed != nil {
		return claims{failed(*result.Failed)}
	}
	if !path.ThroughMesh {
		return c.plain(path.Name, expected, result.Seen)
	}
	if expected.Kind == expectation.Failure {
		return append(c.route(expected, result.Seen), c.failure(result.Seen, c.alive(run)))
	}
	of := append(c.route(expected, result.Seen), c.plain(path.Name, expected, result.Seen)...)
	if sidecar, _ := c.Server.sidecarAnswered(result.Seen); sidecar && result.Seen.Class == observation.ClientCertificateRequired {
		return of.refusedFirst()
	}
	return of
}

// refusedFirst lets the refusal of the server's sidecar decide where it contradicts what is expected. What went out without
// mutual TLS is proof all the same.
func (c claims) refusedFirst() claims {
	var first, rest claims
	proof := false
	for _, one := range c {
		proof = proof || one.proof
		if one.reason == api.ReasonRefused {
			first = append(first, one)
		} else {
			rest = append(rest, one)
		}
	}
	if len(first) > 0 {
		first[0].proof = proof
	}
	return append(first, rest...)
}

// endpointClaims are those about one endpoint that was dialed on its own.
func (c Criteria) endpointClaims(path paths.Path, expected expectation.Expectation, endpoint observation.EndpointResult) claims {
	if endpoint.Asked.IsZero() {
		return claims{unknown(api.QuestionWhat, api.ReasonEndpointsNotAsked, "it has not been dialed yet")}
	}
	if endpoint.Failed != nil {
		return claims{failed(*endpoint.Failed)}
	}
	found := c.plain(path.Name, expected, endpoint.Seen)
	if path.Greets {
		found = append(found, c.greetings(expected, endpoint)...)
	}
	return found
}

func failed(failure observation.Failure) claim {
	if failure.Kind == observation.ExecForbidden {
		return unknown(api.QuestionWhat, api.ReasonExecForbidden, failure.Message)
	}
	return unknown(api.QuestionWhat, api.ReasonNotProbed, failure.Message)
}

// single is what the claims about one request, or one endpoint, come to.
func (c Criteria) single(path paths.Path, expected expectation.Expectation, result observation.Result, of claims) finding {
	decides := of.decisive()
	found := finding{
		outcome: outcomeOf(decides.answer), reason: decides.reason, message: decides.evidence, proof: decides.proof,
		claims: of, result: result, expected: expected, observed: notProbed,
	}
	if result.Failed == nil {
		found.observed = Word(result.Seen)
		if sent := result.Seen.Sent; path.ThroughMesh && sent != nil && !decides.delivered {
			found.host = sent.Host
		}
	}
	switch found.outcome {
	case api.OutcomeMatch:
		found.reason, found.message = verified(expected), inOne(of)
	case api.OutcomeMismatch:
		// Which of several endpoints it was is told of a failure alone: of answers, it changes from run to run.
		if found.host != "" && len(c.Service.Endpoints) > 1 && !found.proof {
			found.message = c.hostNamed(*result.Seen.Sent) + ": " + found.message
		}
		found.message = fmt.Sprintf("%s; expected %s: %s", found.message, worded(expected), expected.Why)
	}
	return found
}

// verified is the reason of a path on which everything is shown.
func verified(expected expectation.Expectation) string {
	switch expected.Kind {
	case expectation.Refusal:
		return api.ReasonRefusedByMesh
	case expectation.Failure:
		return api.ReasonFailedAsDeclared
	case expectation.Denial:
		return api.ReasonDeniedAsDeclared
	default:
		return api.ReasonAnswered
	}
}

// worded is what is expected, with how it should travel.
func worded(expected expectation.Expectation) string {
	switch expected.Encryption {
	case api.EncryptionMutualTLS:
		return expected.String() + " by mutual TLS"
	case api.EncryptionPlaintext:
		return expected.String() + " without mutual TLS"
	default:
		return expected.String()
	}
}

// inOne tells what the claims are shown by, the answer first.
func inOne(of claims) string {
	var words []string
	for _, question := range []api.Question{api.QuestionWhat, api.QuestionWho, api.QuestionHow} {
		for _, one := range of {
			if one.question == question && one.evidence != "" {
				words = append(words, one.evidence)
			}
		}
	}
	return strings.Join(words, "; ")
}

// AsComputed says whether a run shows what Istio computes: of every path and endpoint of which something is computed, all
// that there is to be shown. Status codes are the server's affair.
func (c Criteria) AsComputed(run observation.Run) bool {
	c.Declared = c.Computed
	for _, path := range paths.All() {
		result, ok := run.Results[string(path.Name)]
		if !ok {
			return false
		}
		if expected, ok := c.Computed[path.Name]; ok && c.requestClaims(path, ofAnyCode(expected), result, run).decisive().answer != api.AnswerShown {
			return false
		}
		for _, endpoint := range result.Endpoints {
			expected, ok := c.Endpoints[endpoint.Endpoint.ID]
			if endpoint.Asked.IsZero() || ok && c.endpointClaims(path, ofAnyCode(expected), endpoint).decisive().answer != api.AnswerShown {
				return false
			}
		}
	}
	return true
}

func ofAnyCode(expected expectation.Expectation) expectation.Expectation {
	expected.Code = expectation.AnyCode
	return expected
}

// RequestMatches says whether the latest request to an endpoint along a path shows what is declared.
func (c Criteria) RequestMatches(name api.PathName, endpoint observation.EndpointResult) bool {
	expected, declared := c.Declared[name]
	return declared && endpoint.Failed == nil && !endpoint.Asked.IsZero() && c.plain(name, expected, endpoint.Seen).decisive().answer == api.AnswerShown
}

// GreetingsMatch says whether the latest hellos to an endpoint, after which no request follows, show what is computed of it,
// or declared where nothing is.
func (c Criteria) GreetingsMatch(name api.PathName, endpoint observation.EndpointResult) bool {
	expected, ok := c.Endpoints[endpoint.Endpoint.ID]
	if !ok {
		expected = c.Declared[name]
	}
	of := c.greetings(expected, endpoint)
	return len(of) == 0 || of.decisive().answer == api.AnswerShown
}
