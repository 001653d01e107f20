package verdict

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
)

// Criteria are everything that a run is held against.
type Criteria struct {
	// Declared is what the spec promises of every path.
	Declared expectation.Expectations
	// Computed is what should be seen if the proxies do as Istio computes, of the paths of which something single is, and
	// Endpoints the same of every endpoint, by its ID. Where a mismatch is just what is computed, two witnesses agree.
	Computed  expectation.Expectations
	Endpoints map[string]expectation.Expectation
	// Explanations say, for paths that Istio computes otherwise than declared, what it computes and why.
	Explanations map[api.PathName]string
	// Server is how the server shows who it is, and Service what the client's Envoy calls it.
	Server  Server
	Service Service
	// Denials are the AuthorizationPolicies that do not admit a path's client, in words; none where none is known.
	Denials map[api.PathName]string
	// Policy is what is computed, in words. When it changes, proxies take a moment to follow.
	Policy string
	// Interval is the time between two runs, and FailureThreshold how many of them must fail; at least 1.
	Interval         time.Duration
	FailureThreshold int
	// Previous are the paths' verdicts from before the Record began, where they still speak of the same.
	Previous map[api.PathName]Previous
}

// Previous is a verdict that stands in a status.
type Previous struct {
	Status metav1.ConditionStatus
	Reason string
	// At is when the run began on which it rests.
	At time.Time
}

// Service is the target as the client's Envoy knows it.
type Service struct {
	// Host is the name in Envoy's clusters, such as web.shop.svc.cluster.local, and Port the Service's port.
	Host string
	Port uint32
	// Endpoints are the names of the Service's ready endpoints, by address.
	Endpoints map[string]string
}

const (
	// unit is the least time span for which a failing path counts as one more failure.
	unit = 2 * time.Second
	// settleTime is how long after a change of the policy what is seen may still be the old one's.
	settleTime = 10 * time.Second
	// unknownFor is for how many intervals a verdict stands while requests are answered of which it is not known where
	// they went or how, and while no run comes to an end.
	unknownFor = 3
	// clearAfter is for how many intervals nothing may be seen of what was proved before it is believed to be gone.
	clearAfter = 2
	// forgetAfter is for how many intervals at least an endpoint is remembered that no request came to any more.
	forgetAfter = 10
	// grace is what runs may take beyond their interval: a time-out, an agent's turn, a stream that is opened.
	grace = 90 * time.Second
)

// lasting is for how long a path must fail before that counts.
func (c Criteria) lasting() time.Duration {
	return time.Duration(max(c.FailureThreshold-1, 0)) * min(unit, c.Interval)
}

// forgetting is for how long what was proved of an endpoint is remembered although no request came to it any more: requests
// that are balanced over n endpoints leave one out for 5n of them in one of 150 cases.
func (c Criteria) forgetting() time.Duration {
	return time.Duration(max(forgetAfter, 5*len(c.Service.Endpoints))) * c.Interval
}

// StaleAfter is how old the latest run may be before a verdict on it no longer stands.
func (c Criteria) StaleAfter() time.Duration { return unknownFor*c.Interval + grace }
