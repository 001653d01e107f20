package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/report"
)

var update = flag.Bool("update", false, "write the golden files anew")

// now is the tests' clock.
var now = time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)

func condition(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message}
}

// probe is a probe of generation 1 whose status speaks of it.
func probe(name string, mode api.MTLSMode, conditions ...metav1.Condition) *api.HTTPSMeshProbe {
	p := &api.HTTPSMeshProbe{}
	p.Namespace, p.Name, p.Generation = "shop", name+"-x7k2p", 1
	p.CreationTimestamp = metav1.NewTime(now.Add(-time.Hour))
	p.Spec.Target.Sidecar, p.Spec.MTLS.Mode, p.Spec.Interval.Duration = api.SidecarEnabled, mode, time.Minute
	p.Status.ObservedGeneration, p.Status.Conditions = 1, conditions
	return p
}

func path(name api.PathName, expected, observed string, outcome api.Outcome) api.PathStatus {
	return api.PathStatus{Name: name, Expected: expected, Observed: observed, Outcome: outcome, Latency: &metav1.Duration{Duration: 4 * time.Millisecond}}
}

// verified is a STRICT probe as it should be.
func verified() *api.HTTPSMeshProbe {
	p := probe("strict", api.MTLSStrict,
		condition(api.ConditionReady, metav1.ConditionTrue, api.ReasonVerified, "sleep 200, istio-proxy refused, outsider refused: as expected"),
		condition(api.ConditionSleepVerified, metav1.ConditionTrue, api.ReasonAnswered, "the server answered 200 with its own certificate"),
		condition(api.ConditionIstioProxyVerified, metav1.ConditionTrue, api.ReasonRefusedByMesh, "refused by spiffe://cluster.local/ns/shop/sa/strict"),
		condition(api.ConditionOutsiderVerified, metav1.ConditionTrue, api.ReasonRefusedByMesh, "refused by spiffe://cluster.local/ns/shop/sa/strict"),
		condition(api.ConditionPolicyInEffect, metav1.ConditionTrue, api.ReasonInEffect, "PeerAuthentication shop/strict (workload level) sets STRICT"))
	checked := metav1.NewTime(now.Add(-20 * time.Second))
	p.Status.LastProbeTime = &checked
	p.Status.Paths = []api.PathStatus{
		path(api.PathSleep, "200", "200", api.OutcomeMatch),
		path(api.PathIstioProxy, "refused", "refused", api.OutcomeMatch),
		path(api.PathOutsider, "refused", "refused", api.OutcomeMatch),
	}
	return p
}

// refuted is one that lets somebody in.
func refuted() *api.HTTPSMeshProbe {
	p := verified()
	p.Name = "web-9d4rk"
	p.Spec.Target.Service = &api.TargetService{Name: "web"}
	p.Spec.Target.Service.Port.StrVal, p.Spec.Target.Service.Port.Type = "https", 1
	p.Status.Conditions[0] = condition(api.ConditionReady, metav1.ConditionFalse, api.ReasonRefuted, "outsider: 200 instead of refused; policy: <legacy> & others set PERMISSIVE")
	p.Status.Conditions[2] = condition(api.ConditionIstioProxyVerified, metav1.ConditionUnknown, api.ReasonNoPositiveControl, "nobody got through in the same run")
	p.Status.Conditions[3] = condition(api.ConditionOutsiderVerified, metav1.ConditionFalse, api.ReasonMTLSNotEnforced, "the request reached the server\x1b[2J (200)")
	p.Status.Conditions[4] = condition(api.ConditionPolicyInEffect, metav1.ConditionFalse, api.ReasonOverridden, "PeerAuthentication <legacy> & others set PERMISSIVE # older")
	p.Status.Paths[1] = path(api.PathIstioProxy, "refused", "refused", api.OutcomeUnknown)
	p.Status.Paths[2] = path(api.PathOutsider, "refused", "200", api.OutcomeMismatch)
	return p
}

// stalled is one that nothing can be asked of.
func stalled() *api.HTTPSMeshProbe {
	const message = "Service shop/web does not exist"
	var conditions []metav1.Condition
	for _, kind := range []string{api.ConditionSleepVerified, api.ConditionIstioProxyVerified, api.ConditionOutsiderVerified, api.ConditionPolicyInEffect} {
		conditions = append(conditions, condition(kind, metav1.ConditionUnknown, api.ReasonServiceNotFound, message))
	}
	return probe("nosuch", api.MTLSUnset, append(conditions,
		condition(api.ConditionReady, metav1.ConditionFalse, api.ReasonServiceNotFound, message),
		condition(api.ConditionStalled, metav1.ConditionTrue, api.ReasonServiceNotFound, message))...)
}

// with changes a copy of a probe.
func with(p *api.HTTPSMeshProbe, change func(*api.HTTPSMeshProbe)) *api.HTTPSMeshProbe {
	changed := p.DeepCopy()
	change(changed)
	return changed
}

func setReady(status metav1.ConditionStatus, reason string) func(*api.HTTPSMeshProbe) {
	return func(p *api.HTTPSMeshProbe) {
		p.Status.Conditions[0].Status, p.Status.Conditions[0].Reason = status, reason
	}
}

// Every reason of Ready that docs/verdicts.md lists leads to one exit code, and a probe is waited for unless waiting is
// of no use.
func TestExitCodeOfEveryReason(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "verdicts.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Ready\n")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := regexp.MustCompile("(?m)^\\| (True|False|Unknown) \\| `([A-Za-z]+)` \\| (.*)$").FindAllStringSubmatch(section, -1)
	if len(rows) < 20 {
		t.Fatalf("docs/verdicts.md lists %d reasons of Ready, want at least 20", len(rows))
	}
	for _, row := range rows {
		status, reason, rest := row[1], row[2], row[3]
		t.Run(reason, func(t *testing.T) {
			p := with(verified(), setReady(metav1.ConditionStatus(status), reason))
			stops := strings.Contains(rest, "`Stalled` is True")
			if stops {
				p.Status.Conditions = append(p.Status.Conditions, condition(api.ConditionStalled, metav1.ConditionTrue, reason, "stalled"))
			}
			if strings.Contains(rest, "`Reconciling` is True") {
				p.Status.Conditions = append(p.Status.Conditions, condition(api.ConditionReconciling, metav1.ConditionTrue, reason, "on its way"))
			}
			wantCode, wantFinal := report.ExitUnknown, stops || reason == api.ReasonSuspended
			switch reason {
			case api.ReasonVerified:
				wantCode, wantFinal = report.ExitVerified, true
			case api.ReasonRefuted:
				wantCode, wantFinal = report.ExitRefuted, true
			}
			if got := report.Settle(p).Final; got != wantFinal {
				t.Errorf("final: got %v, want %v", got, wantFinal)
			}
			if got := exitCode(p, report.Ending{}); got != wantCode {
				t.Errorf("exit code: got %d, want %d", got, wantCode)
			}
		})
	}
}

func exitCode(p *api.HTTPSMeshProbe, ending report.Ending) int {
	return report.New([]report.Probe{report.Of(p, p.Name, ending, time.Second)}).ExitCode()
}

// What looks like a verdict and is none yet.
func TestProvisionalVerdicts(t *testing.T) {
	reconciling := func(p *api.HTTPSMeshProbe) {
		p.Status.Conditions = append(p.Status.Conditions, condition(api.ConditionReconciling, metav1.ConditionTrue, api.ReasonProgressing, "following"))
	}
	for name, p := range map[string]*api.HTTPSMeshProbe{
		"nobody has looked":             with(verified(), func(p *api.HTTPSMeshProbe) { p.Status = api.HTTPSMeshProbeStatus{ObservedGeneration: -1} }),
		"the spec is newer":             with(verified(), func(p *api.HTTPSMeshProbe) { p.Generation = 2 }),
		"refuted, the spec is newer":    with(refuted(), func(p *api.HTTPSMeshProbe) { p.Generation = 2 }),
		"without Ready":                 with(verified(), func(p *api.HTTPSMeshProbe) { p.Status.Conditions = p.Status.Conditions[1:] }),
		"True while reconciling":        with(verified(), reconciling),
		"False while reconciling":       with(refuted(), reconciling),
		"True below the threshold":      with(verified(), func(p *api.HTTPSMeshProbe) { p.Status.Conditions[3].Reason = api.ReasonBelowThreshold }),
		"False, and others not settled": with(refuted(), func(p *api.HTTPSMeshProbe) { p.Status.Conditions[2].Reason = api.ReasonBelowThreshold }),
		"True for a reason not known":   with(verified(), setReady(metav1.ConditionTrue, "Splendid")),
		"False for a reason not known":  with(verified(), setReady(metav1.ConditionFalse, "Dreadful")),
	} {
		t.Run(name, func(t *testing.T) {
			if report.Settle(p).Final {
				t.Error("it is taken for final")
			}
			if got := exitCode(p, report.Ending{}); got != report.ExitUnknown {
				t.Errorf("exit code: got %d, want %d", got, report.ExitUnknown)
			}
		})
	}
}

// Whatever ends the waiting, nothing that was found out before is given out for an answer.
func TestEndings(t *testing.T) {
	for _, asked := range []bool{true, false} {
		ending := report.Ending{Reason: "Timeout", Message: "no verdict in time", Asked: asked}
		for _, p := range []*api.HTTPSMeshProbe{verified(), refuted(), stalled()} {
			result := report.Of(p, "name", ending, time.Second)
			unknown := 0
			for _, check := range result.Checks {
				if check.Verdict == report.Refuted {
					t.Errorf("asked %v, %s: check %s is refuted, and the probe unknown", asked, p.Name, check.Name)
				}
				if check.Verdict == report.Unknown {
					unknown++
				}
			}
			if result.Verdict != report.Unknown || unknown == 0 || !asked && unknown != len(result.Checks) {
				t.Errorf("asked %v, %s: %+v", asked, p.Name, result)
			}
		}
	}
}

func TestExitCodesOfSeveral(t *testing.T) {
	of := func(verdicts ...report.Verdict) report.Report {
		var probes []report.Probe
		for _, verdict := range verdicts {
			probes = append(probes, report.Probe{Verdict: verdict})
		}
		return report.New(probes)
	}
	for _, c := range []struct {
		name string
		of   report.Report
		want int
	}{
		{"none", of(), report.ExitUnknown},
		{"verified", of(report.Verified, report.Verified), report.ExitVerified},
		{"one unknown", of(report.Verified, report.Unknown), report.ExitUnknown},
		{"one refuted", of(report.Verified, report.Refuted), report.ExitRefuted},
		{"a refutation is a fact", of(report.Unknown, report.Refuted, report.Unknown), report.ExitRefuted},
		{"not said", report.Report{}, report.ExitUnknown},
	} {
		if got := c.of.ExitCode(); got != c.want {
			t.Errorf("%s: exit code %d, want %d", c.name, got, c.want)
		}
	}
}

// all is a report with one probe of every kind.
func all() report.Report {
	waiting := with(verified(), func(p *api.HTTPSMeshProbe) {
		p.Name, p.Status = "slow-abcde", api.HTTPSMeshProbeStatus{ObservedGeneration: -1}
	})
	return report.New([]report.Probe{
		report.Of(verified(), "strict", report.Ending{}, 3900*time.Millisecond),
		report.Of(refuted(), "web", report.Ending{}, 1200*time.Millisecond),
		report.Of(stalled(), "nosuch", report.Ending{}, 20*time.Millisecond),
		report.Of(waiting, "slow", report.Ending{Reason: "Timeout", Message: "no verdict in time", Asked: true}, 5*time.Second),
	})
}

func TestGoldenReports(t *testing.T) {
	for file, write := range map[string]func(io.Writer) error{
		"report.txt":       func(w io.Writer) error { return all().Text(w, false) },
		"coloured.txt":     func(w io.Writer) error { return all().Text(w, true) },
		"report.json":      all().JSON,
		"report.junit.xml": all().JUnit,
		"report.tap":       all().TAP,
		"nothing.txt":      func(w io.Writer) error { return report.New(nil).Text(w, false) },
		"nothing.tap":      report.New(nil).TAP,
	} {
		t.Run(file, func(t *testing.T) {
			var got bytes.Buffer
			if err := write(&got); err != nil {
				t.Fatal(err)
			}
			wantGolden(t, file, got.Bytes())
		})
	}
}

func wantGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (go test ./internal/report -update writes it anew); it is now:\n%s", file, got)
	}
}

// What machines read can be read, and counts what people read.
func TestMachinesCanReadIt(t *testing.T) {
	var junit bytes.Buffer
	if err := all().JUnit(&junit); err != nil {
		t.Fatal(err)
	}
	counted := map[string]int{}
	for decoder := xml.NewDecoder(&junit); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if element, ok := token.(xml.StartElement); ok {
			counted[element.Name.Local]++
		}
	}
	if counted["testsuite"] != 4 || counted["testcase"] != 16 || counted["failure"] != 2 || counted["error"] != 9 {
		t.Errorf("JUnit: %v, want 4 suites, 16 cases, 2 failures, 9 errors", counted)
	}
	var text bytes.Buffer
	if err := all().JSON(&text); err != nil {
		t.Fatal(err)
	}
	var back report.Report
	if err := json.Unmarshal(text.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if back.ExitCode() != report.ExitRefuted || len(back.Probes) != 4 {
		t.Errorf("JSON: read back as %+v", back)
	}
}

// No output may show passes alone for a probe that is not verified.
func TestNoReportIsGreenWithoutAVerdict(t *testing.T) {
	open := with(verified(), setReady(metav1.ConditionUnknown, api.ReasonUndetermined))
	result := report.Of(open, "strict", report.Ending{}, time.Second)
	last := result.Checks[len(result.Checks)-1]
	if last.Name != "verdict" || last.Verdict != report.Unknown {
		t.Errorf("every path is verified and Ready is not; the last check is %+v, want an unknown verdict", last)
	}
}
