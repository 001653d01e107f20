// Package report turns the statuses of probes into what is printed and into an exit code: a table for people, JUnit XML,
// JSON and TAP for machines. It is pure: it knows no cluster and no clock.
package report

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
)

// Verdict is what was found out about a path, a policy or a whole probe.
type Verdict string

const (
	// Verified means that what was declared holds.
	Verified Verdict = "Verified"
	// Refuted means that something contradicts it.
	Refuted Verdict = "Refuted"
	// Unknown means that it could not be found out. It is never a pass.
	Unknown Verdict = "Unknown"
)

// Exit codes of a report.
const (
	// ExitVerified says that every probe is verified, and that there is one.
	ExitVerified = 0
	// ExitRefuted says that at least one probe is refuted. A refutation is a fact, whatever is unknown beside it.
	ExitRefuted = 1
	// ExitUnknown says that nothing is refuted, and that something could not be found out.
	ExitUnknown = 2
)

// Check is one statement of a probe: a path's or the policy's.
type Check struct {
	// Name is sleep, istio-proxy, outsider, policy, or verdict where none of these says why the probe is not verified.
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	// Expected and Observed are as in the probe's status; empty for the policy.
	Expected string `json:"expected,omitempty"`
	Observed string `json:"observed,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Message  string `json:"message,omitempty"`
	// Seconds is how long the path's latest request took.
	Seconds float64 `json:"seconds,omitempty"`
}

// Probe is what became of one probe.
type Probe struct {
	Namespace string `json:"namespace"`
	// Name is what the person calls it, and Object what it was called in the cluster where that is something else.
	Name   string `json:"name"`
	Object string `json:"object,omitempty"`
	// Declared says in words what is to hold.
	Declared string  `json:"declared"`
	Verdict  Verdict `json:"verdict"`
	Reason   string  `json:"reason"`
	Message  string  `json:"message"`
	Checks   []Check `json:"checks"`
	// Seconds is how long it took until the verdict was there.
	Seconds float64 `json:"seconds"`
}

// Report is what became of all probes that were asked for.
type Report struct {
	Verdict Verdict `json:"verdict"`
	Probes  []Probe `json:"probes"`
}

// checkPolicy and checkVerdict are the names of checks that are no path's.
const (
	checkPolicy  = "policy"
	checkVerdict = "verdict"
)

// New sums up. One refuted probe makes the whole refuted, else an unknown one makes it unknown. No probe at all proves
// nothing.
func New(probes []Probe) Report {
	verdict := Verified
	if len(probes) == 0 {
		verdict = Unknown
	}
	for _, probe := range probes {
		verdict = worse(verdict, probe.Verdict)
	}
	return Report{Verdict: verdict, Probes: probes}
}

func worse(a, b Verdict) Verdict {
	switch {
	case a == Refuted || b == Refuted:
		return Refuted
	case a == Verified && b == Verified:
		return Verified
	default:
		return Unknown
	}
}

// ExitCode is the program's exit code for the report.
func (r Report) ExitCode() int {
	switch r.Verdict {
	case Verified:
		return ExitVerified
	case Refuted:
		return ExitRefuted
	default:
		return ExitUnknown
	}
}

// Ending is why a probe is reported although it has not settled; the zero value is that it has.
type Ending struct {
	// Reason is a word such as Timeout, Message a sentence.
	Reason, Message string
	// Asked says that what the status says of the paths was found out since somebody asked, and not before.
	Asked bool
}

// Of says what became of a probe, after it took so long. A probe that has not settled is unknown.
func Of(probe *api.HTTPSMeshProbe, name string, ending Ending, took time.Duration) Probe {
	result := Probe{Namespace: probe.Namespace, Name: name, Declared: Declared(probe.Spec), Seconds: took.Seconds()}
	if name != probe.Name {
		result.Object = probe.Name
	}
	settlement := Settle(probe)
	result.Verdict, result.Reason, result.Message = settlement.Verdict, settlement.Reason, settlement.Message
	if ending.Reason != "" {
		result.Verdict, result.Reason, result.Message = Unknown, ending.Reason, ending.Message
	}
	switch {
	case !current(probe), ending.Reason != "" && !ending.Asked:
		result.Checks = unasked(result.Reason, result.Message)
	default:
		result.Checks = checks(probe)
	}
	result.agree()
	return result
}

// agree keeps the checks from saying more than the verdict: no output may show passes alone for a probe that is not
// verified, and none may show a failure for one that has not been refuted.
func (p *Probe) agree() {
	if p.Verdict != Refuted {
		for i := range p.Checks {
			if p.Checks[i].Verdict == Refuted {
				p.Checks[i].Verdict = Unknown
			}
		}
	}
	switch worst := worstOf(p.Checks); {
	case worst == p.Verdict:
	case p.Verdict == Verified:
		p.Verdict = Unknown
	default:
		p.Checks = append(p.Checks, Check{Name: checkVerdict, Verdict: p.Verdict, Reason: p.Reason, Message: p.Message})
	}
}

// Declared says in words what a probe declares.
func Declared(spec api.HTTPSMeshProbeSpec) string {
	words := target(spec)
	if spec.Target.Service != nil {
		words = "Service " + words
	}
	words += fmt.Sprintf(", sidecar %s, mTLS %s", spec.Target.Sidecar, orUnset(string(spec.MTLS.Mode)))
	if mode := spec.MTLS.ClientMode; mode.IsSet() {
		words += fmt.Sprintf(", client %s", mode)
	}
	return words
}

func orUnset(mode string) string {
	if mode == "" {
		return string(api.MTLSUnset)
	}
	return mode
}

func worstOf(checks []Check) Verdict {
	verdict := Verified
	for _, check := range checks {
		verdict = worse(verdict, check.Verdict)
	}
	return verdict
}

func checks(probe *api.HTTPSMeshProbe) []Check {
	var found []Check
	for _, name := range paths.Names() {
		check := checkOf(string(name), meta.FindStatusCondition(probe.Status.Conditions, paths.Condition(name)))
		for _, path := range probe.Status.Paths {
			if path.Name != name {
				continue
			}
			check.Expected, check.Observed = path.Expected, path.Observed
			if path.Latency != nil {
				check.Seconds = path.Latency.Seconds()
			}
		}
		found = append(found, check)
	}
	return append(found, checkOf(checkPolicy, meta.FindStatusCondition(probe.Status.Conditions, api.ConditionPolicyInEffect)))
}

func checkOf(name string, condition *metav1.Condition) Check {
	if condition == nil {
		return Check{Name: name, Verdict: Unknown, Reason: reasonUnasked, Message: "the probe's status does not say"}
	}
	check := Check{Name: name, Verdict: Unknown, Reason: condition.Reason, Message: condition.Message}
	switch condition.Status {
	case metav1.ConditionTrue:
		check.Verdict = Verified
	case metav1.ConditionFalse:
		check.Verdict = Refuted
	}
	// The condition says what was before; the latest request saw something else.
	if condition.Reason == api.ReasonBelowThreshold && check.Verdict == Verified {
		check.Verdict = Unknown
	}
	return check
}

// unasked are the checks of a probe of which the status says nothing.
func unasked(reason, message string) []Check {
	var none []Check
	for _, name := range paths.Names() {
		none = append(none, Check{Name: string(name), Verdict: Unknown, Reason: reason, Message: message})
	}
	return append(none, Check{Name: checkPolicy, Verdict: Unknown, Reason: reason, Message: message})
}
