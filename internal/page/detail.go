package page

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
)

// Detail is all that the page shows of one probe from its object alone.
type Detail struct {
	Row        Row          `json:"row"`
	Declared   []Field      `json:"declared"`
	Paths      []PathDetail `json:"paths"`
	Conditions []Condition  `json:"conditions"`
	// Delivered is where the client's Envoy is configured to lead requests for the Service.
	Delivered    []Field `json:"delivered"`
	PolicyChange []Field `json:"policyChange"`
	Certificate  []Field `json:"certificate"`
}

// Field is a line of evidence: a label with either a text or a time.
type Field struct {
	Label string     `json:"label"`
	Text  string     `json:"text,omitempty"`
	Time  *time.Time `json:"time,omitempty"`
}

// PathDetail is one path with its evidence.
type PathDetail struct {
	Cell      Cell             `json:"cell"`
	Goes      string           `json:"goes"`
	Message   string           `json:"message"`
	Claims    []Claim          `json:"claims"`
	Evidence  []Field          `json:"evidence"`
	Endpoints []EndpointDetail `json:"endpoints"`
}

// Claim is what is claimed of a path, with what the latest run says of it.
type Claim struct {
	State    State  `json:"state"`
	Question string `json:"question"`
	Answer   string `json:"answer"`
	Evidence string `json:"evidence"`
}

// EndpointDetail is one endpoint that showed something else than expected.
type EndpointDetail struct {
	Name     string `json:"name"`
	Address  string `json:"address"`
	Observed string `json:"observed"`
	Message  string `json:"message"`
}

// Condition is a condition of the status, word for word.
type Condition struct {
	Type    string     `json:"type"`
	Status  string     `json:"status"`
	Reason  string     `json:"reason"`
	Message string     `json:"message"`
	Since   *time.Time `json:"since,omitempty"`
}

// DetailOf is the probe in full as of now.
func DetailOf(probe *api.HTTPSMeshProbe, now time.Time) Detail {
	detail := Detail{
		Row: RowOf(probe, now), Declared: declared(probe), Conditions: []Condition{},
		Delivered: delivered(probe.Status.Delivered), PolicyChange: policyChange(probe.Status.LastPolicyChange), Certificate: certificate(probe.Status.Certificate),
	}
	for _, cell := range detail.Row.Paths {
		detail.Paths = append(detail.Paths, pathDetail(cell, probe))
	}
	for _, condition := range probe.Status.Conditions {
		detail.Conditions = append(detail.Conditions, Condition{
			Type: condition.Type, Status: string(condition.Status), Reason: condition.Reason, Message: condition.Message,
			Since: timeOf(&condition.LastTransitionTime),
		})
	}
	return detail
}

func declared(probe *api.HTTPSMeshProbe) []Field {
	spec := probe.Spec
	fields := fieldsOf(
		Field{Label: "target", Text: target(probe)},
		Field{Label: "path", Text: spec.Target.Path},
		Field{Label: "server name", Text: spec.Target.ServerName},
		Field{Label: "sidecar", Text: string(spec.Target.Sidecar)},
		Field{Label: "mTLS mode", Text: string(spec.MTLS.Mode)},
		Field{Label: "client's mode", Text: string(spec.MTLS.ClientMode)},
		Field{Label: "revision", Text: spec.Revision},
		Field{Label: "interval", Text: spec.Interval.Duration.String()},
		Field{Label: "timeout", Text: spec.Timeout.Duration.String()},
		Field{Label: "failure threshold", Text: fmt.Sprintf("%d in a row", spec.FailureThreshold)},
	)
	for _, expect := range spec.Expect {
		fields = append(fields, Field{Label: "expect on " + string(expect.Path), Text: expect.See.String() + ": " + expect.Reason})
	}
	return fields
}

func pathDetail(cell Cell, probe *api.HTTPSMeshProbe) PathDetail {
	detail := PathDetail{
		Cell: cell, Goes: wayOf(cell.Path), Message: judgement(probe, paths.Condition(cell.Path)).Message,
		Claims: []Claim{}, Evidence: []Field{}, Endpoints: []EndpointDetail{},
	}
	path := pathStatus(probe, cell.Path)
	if path == nil {
		return detail
	}
	for _, claim := range path.Claims {
		detail.Claims = append(detail.Claims, Claim{stateOfAnswer(claim.Answer), string(claim.Question), string(claim.Answer), claim.Evidence})
	}
	detail.Evidence = evidence(path)
	if path.Endpoints != nil {
		for _, endpoint := range path.Endpoints.Examples {
			detail.Endpoints = append(detail.Endpoints, EndpointDetail{
				Name: endpoint.Name, Address: endpoint.Address, Observed: endpoint.Observed, Message: endpoint.Message,
			})
		}
	}
	return detail
}

func stateOfAnswer(answer api.Answer) State {
	switch answer {
	case api.AnswerShown:
		return Verified
	case api.AnswerContradicted:
		return Refuted
	default:
		return Unknown
	}
}

func wayOf(name api.PathName) string {
	switch name {
	case api.PathSleep:
		return "through the client's sidecar"
	case api.PathIstioProxy:
		return "around the client's sidecar, without a certificate of the mesh"
	default:
		return "from a pod without sidecar, outside the mesh"
	}
}

func evidence(path *api.PathStatus) []Field {
	expected := path.Expected
	if path.ExpectedReason != "" {
		expected += ": " + path.ExpectedReason
	}
	fields := fieldsOf(
		Field{Label: "expected", Text: expected},
		Field{Label: "observed", Text: path.Observed},
		Field{Label: "outcome", Text: string(path.Outcome)},
		Field{Label: "HTTP status code", Text: positive("%d", path.HTTPCode)},
		Field{Label: "TLS", Text: strings.TrimSpace(path.TLSVersion + " " + path.CipherSuite)},
		Field{Label: "peer", Text: path.Peer},
		Field{Label: "client certificate", Text: certificateRequest(path)},
		Field{Label: "alert", Text: path.Alert},
		Field{Label: "left the client's pod as", Text: encryption(path.Encryption)},
		Field{Label: "sent to", Text: path.SentTo},
		Field{Label: "endpoints", Text: endpoints(path.Endpoints)},
		Field{Label: "latency", Text: duration(path.Latency)},
		Field{Label: "mismatches in a row", Text: positive("%d", path.ConsecutiveFailures)},
		Field{Label: "run began", Time: timeOf(path.LastProbeTime)},
		Field{Label: "as it is since", Time: timeOf(path.LastTransitionTime)},
	)
	return fields
}

// certificateRequest says nothing where no handshake came so far that it could have been asked for.
func certificateRequest(path *api.PathStatus) string {
	switch {
	case path.ClientCertificateRequested:
		return "was requested by the peer"
	case path.TLSVersion != "":
		return "was not requested"
	}
	return ""
}

func encryption(how api.Encryption) string {
	switch how {
	case api.EncryptionMutualTLS:
		return "mutual TLS of the mesh, by Envoy's counters"
	case api.EncryptionPlaintext:
		return "plaintext of the mesh, by Envoy's counters"
	case api.EncryptionUnknown:
		return "unknown: Envoy's counters could not tell"
	}
	return ""
}

func endpoints(status *api.EndpointsStatus) string {
	if status == nil {
		return ""
	}
	return fmt.Sprintf("%d ready, %d dialed, %d not as expected", status.Total, status.Asked, status.Mismatched)
}

func delivered(status *api.DeliveredStatus) []Field {
	if status == nil {
		return []Field{}
	}
	fields := fieldsOf(Field{Label: "led by", Text: status.Object}, Field{Label: "note", Text: status.Message})
	for _, leg := range status.Legs {
		text := fmt.Sprintf("%d %%, mutual TLS to %d of %d endpoints", leg.Percent, leg.MutualTLS, leg.Endpoints)
		if leg.Object != "" {
			text += ", shaped by " + leg.Object
		}
		fields = append(fields, Field{Label: leg.Cluster, Text: text})
	}
	return fields
}

func policyChange(change *api.PolicyChange) []Field {
	if change == nil {
		return []Field{}
	}
	settled := "not within 10s"
	if change.SettledAfter != nil {
		settled = "after " + change.SettledAfter.Duration.String()
	}
	return fieldsOf(
		Field{Label: "what changed", Text: change.Object},
		Field{Label: "from", Text: change.From},
		Field{Label: "to", Text: change.To},
		Field{Label: "seen", Time: timeOf(change.SeenTime)},
		Field{Label: "shown by the paths", Text: settled},
		Field{Label: "requests meanwhile", Text: fmt.Sprintf("%d sent on the path sleep, %d of them lost", change.ProbesSent, change.ProbesLost)},
	)
}

func certificate(status *api.CertificateStatus) []Field {
	if status == nil {
		return []Field{}
	}
	days := ""
	if status.DaysLeft != nil {
		days = fmt.Sprintf("%d", *status.DaysLeft)
	}
	return fieldsOf(
		Field{Label: "SHA-256", Text: status.SHA256},
		Field{Label: "ends", Time: timeOf(status.NotAfter)},
		Field{Label: "days left", Text: days},
	)
}

// fieldsOf leaves out what says nothing.
func fieldsOf(fields ...Field) []Field {
	kept := []Field{}
	for _, field := range fields {
		if field.Text != "" || field.Time != nil {
			kept = append(kept, field)
		}
	}
	return kept
}

func positive(format string, n int32) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(format, n)
}

func duration(d *metav1.Duration) string {
	if d == nil {
		return ""
	}
	return d.Duration.String()
}
