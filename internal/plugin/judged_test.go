package plugin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/plugin"
	"github.com/meshprobe/httpsmeshprobe/test/apiserver"
)

// write is what the operator writes of a probe at one time.
type write func(*api.HTTPSMeshProbe)

// judges writes a verdict on the present spec, which answers whatever was asked for.
func judges(status metav1.ConditionStatus, reason string) write {
	return func(probe *api.HTTPSMeshProbe) {
		probe.Status.ObservedGeneration = probe.Generation
		probe.Status.LastHandledRequest = probe.Annotations[api.AnnotationRequestedAt]
		for _, kind := range []string{api.ConditionReconciling, api.ConditionStalled} {
			meta.RemoveStatusCondition(&probe.Status.Conditions, kind)
		}
		for _, kind := range []string{api.ConditionReady, api.ConditionSleepVerified, api.ConditionIstioProxyVerified, api.ConditionOutsiderVerified, api.ConditionPolicyInEffect} {
			meta.SetStatusCondition(&probe.Status.Conditions, metav1.Condition{Type: kind, Status: status, Reason: reason, Message: "as the test says"})
		}
	}
}

// and adds an abnormal condition to a verdict.
func and(first write, kind, reason string) write {
	return func(probe *api.HTTPSMeshProbe) {
		first(probe)
		meta.SetStatusCondition(&probe.Status.Conditions, metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: reason, Message: "as the test says"})
	}
}

var (
	verified   = judges(metav1.ConditionTrue, api.ReasonVerified)
	refuted    = judges(metav1.ConditionFalse, api.ReasonRefuted)
	open       = judges(metav1.ConditionUnknown, api.ReasonUndetermined)
	troubled   = judges(metav1.ConditionFalse, api.ReasonPodsFailing)
	stalled    = and(judges(metav1.ConditionFalse, api.ReasonServiceNotFound), api.ConditionStalled, api.ReasonServiceNotFound)
	starting   = and(judges(metav1.ConditionUnknown, api.ReasonProgressing), api.ConditionReconciling, api.ReasonProgressing)
	tooEarly   = and(refuted, api.ConditionReconciling, api.ReasonProgressing)
	unhandled  = func(probe *api.HTTPSMeshProbe) { refuted(probe); probe.Status.LastHandledRequest = "" }
	ofOldSpec  = func(probe *api.HTTPSMeshProbe) { verified(probe); probe.Status.ObservedGeneration-- }
	belowLimit = func(probe *api.HTTPSMeshProbe) {
		verified(probe)
		meta.FindStatusCondition(probe.Status.Conditions, api.ConditionOutsiderVerified).Reason = api.ReasonBelowThreshold
	}
)

// operator plays the operator in a namespace: it writes to every probe there what the test says, one after the other, and
// deletes it where that is nil.
func operator(t *testing.T, namespace string, writes ...write) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	// Any state will do to begin with: an API server without work can take seconds to know that it has the newest.
	from := &client.ListOptions{Namespace: namespace, Raw: &metav1.ListOptions{ResourceVersion: "0"}}
	watcher, err := admin.Watch(ctx, &api.HTTPSMeshProbeList{}, from)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		watcher.Stop()
		<-done
	})
	go func() {
		defer close(done)
		asked := map[string]string{}
		for event := range watcher.ResultChan() {
			probe, ok := event.Object.(*api.HTTPSMeshProbe)
			if !ok || event.Type != "ADDED" && event.Type != "MODIFIED" {
				continue
			}
			// The event may be from before what the test itself has written.
			if err := admin.Get(ctx, client.ObjectKeyFromObject(probe), probe); err != nil {
				continue
			}
			occasion := fmt.Sprint(probe.Generation, " ", probe.Annotations[api.AnnotationRequestedAt])
			judged := probe.Status.ObservedGeneration == probe.Generation && probe.Annotations[api.AnnotationRequestedAt] == ""
			if judged || asked[probe.Name] == occasion {
				continue
			}
			asked[probe.Name] = occasion
			for _, write := range writes {
				if write == nil {
					_ = admin.Delete(ctx, probe)
					break
				}
				write(probe)
				err := admin.Status().Update(ctx, probe)
				if apierrors.IsConflict(err) {
					delete(asked, probe.Name) // the event of that change is on its way
					break
				}
				if client.IgnoreNotFound(err) != nil && ctx.Err() == nil {
					t.Errorf("write the status of %s: %v", probe.Name, err)
				}
			}
		}
	}()
}

// What the operator writes, in this order, and what becomes of it.
var cases = []struct {
	name     string
	writes   []write
	code     int
	says     string
	outlasts bool // it is waited for until the time is over
}{
	{"verified", []write{starting, verified}, plugin.ExitVerified, "VERIFIED", false},
	{"refuted", []write{starting, refuted}, plugin.ExitRefuted, "REFUTED", false},
	{"stalled", []write{stalled}, plugin.ExitUnknown, "ServiceNotFound", false},
	{"refuted too early", []write{starting, tooEarly, verified}, plugin.ExitVerified, "VERIFIED", false},
	{"verified, but below the threshold", []write{belowLimit, refuted}, plugin.ExitRefuted, "REFUTED", false},
	{"in trouble that passes", []write{troubled, open, verified}, plugin.ExitVerified, "VERIFIED", false},
	{"deleted by somebody", []write{starting, nil}, plugin.ExitUnknown, "somebody has deleted the probe", false},
	{"only starting", []write{starting}, plugin.ExitUnknown, "Timeout: no verdict in time; last heard: Progressing", true},
	{"only provisional", []write{tooEarly}, plugin.ExitUnknown, "Timeout", true},
	{"only below the threshold", []write{belowLimit}, plugin.ExitUnknown, "Timeout", true},
	{"undetermined", []write{open}, plugin.ExitUnknown, "Timeout: no verdict in time; last heard: Undetermined", true},
	{"pods that fail", []write{troubled}, plugin.ExitUnknown, "Timeout: no verdict in time; last heard: PodsFailing", true},
	{"on an older spec", []write{ofOldSpec}, plugin.ExitUnknown, "Timeout", true},
	{"no operator", nil, plugin.ExitUnknown, "NoOperator: nobody has written a status for 2", false},
	{"nobody looks", nil, plugin.ExitUnknown, "Timeout: no verdict in time; last heard: NotLookedAt", true},
}

// patience is how long a verdict that must come is waited for, and a moment one that must not.
const (
	patience = "30s"
	aMoment  = "700ms"
)

func TestRunSaysWhatTheStatusSays(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t)
			operator(t, ns, c.writes...)
			timeout := patience
			if c.outlasts {
				timeout = aMoment
			}
			got := call(t, "run", "--mtls", "STRICT", "-n", ns, "--timeout", timeout)
			if got.code != c.code || !strings.Contains(got.out, c.says) || !strings.Contains(got.out, ns+"/mtls-strict") {
				t.Errorf("want exit code %d and %q, got %+v", c.code, c.says, got)
			}
			wantNothingLeft(t, ns)
		})
	}
}

func TestTriggerSaysWhatTheStatusSays(t *testing.T) {
	for _, c := range append(cases,
		struct {
			name     string
			writes   []write
			code     int
			says     string
			outlasts bool
		}{"a verdict that answers nothing", []write{unhandled}, plugin.ExitUnknown, "Timeout: no verdict in time; last heard: asked for a run", true},
	) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t)
			probe := newProbe(t, ns, "strict")
			// The verdict before must not be taken for an answer.
			verified(probe)
			if err := admin.Status().Update(t.Context(), probe); err != nil {
				t.Fatal(err)
			}
			operator(t, ns, c.writes...)
			timeout := patience
			if c.outlasts {
				timeout = aMoment
			}
			got := call(t, "trigger", "strict", "-n", ns, "--timeout", timeout)
			says := c.says
			if c.name == "nobody looks" {
				says = "Timeout: no verdict in time; last heard: asked for a run"
			}
			if got.code != c.code || !strings.Contains(got.out, says) {
				t.Errorf("want exit code %d and %q, got %+v", c.code, says, got)
			}
		})
	}
}

func TestTriggerAsks(t *testing.T) {
	ns := namespace(t)
	newProbe(t, ns, "one")
	two := newProbe(t, ns, "two")
	got := call(t, "trigger", "--all", "-n", ns, "--wait=false")
	if got.code != plugin.ExitVerified || got.out != "httpsmeshprobe/one asked for a run\nhttpsmeshprobe/two asked for a run\n" {
		t.Errorf("without waiting: %+v", got)
	}
	first := requestOf(t, two)
	if first == "" {
		t.Error("the annotation is not set")
	}
	call(t, "trigger", "two", "-n", ns, "--wait=false")
	second := requestOf(t, two)
	if second == first {
		t.Errorf("asked twice with the value %q", second)
	}
	two.Spec.Suspend = true
	if err := admin.Update(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	if got := call(t, "trigger", "two", "-n", ns, "--timeout", patience); got.code != plugin.ExitUnknown || !strings.Contains(got.out, "Suspended: spec.suspend is true") {
		t.Errorf("a suspended probe: %+v", got)
	}
	if third := requestOf(t, two); third != second {
		t.Error("a suspended probe was asked for a run")
	}
	wantFailure(t, call(t, "trigger", "-l", "no=such", "-n", ns), "No resources found in "+ns)
}

// requestOf reads the annotation, and leaves the latest version of the probe in probe.
func requestOf(t *testing.T, probe *api.HTTPSMeshProbe) string {
	t.Helper()
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(probe), probe); err != nil {
		t.Fatal(err)
	}
	return probe.Annotations[api.AnnotationRequestedAt]
}

// Several probes make one report, in the order in which they were given, and one exit code.
func TestRunOfSeveral(t *testing.T) {
	ns := namespace(t)
	operator(t, ns, func(probe *api.HTTPSMeshProbe) {
		if probe.Spec.MTLS.Mode == api.MTLSDisable {
			refuted(probe)
		} else {
			verified(probe)
		}
	})
	got := call(t, "run", "--task", "-n", ns, "-o", "json", "--timeout", patience)
	var parsed struct {
		Verdict string
		Probes  []struct{ Name, Object, Verdict string }
	}
	if err := json.Unmarshal([]byte(got.out), &parsed); err != nil {
		t.Fatalf("%v: %s", err, got.out)
	}
	var said []string
	for _, probe := range parsed.Probes {
		said = append(said, probe.Name+" "+probe.Verdict)
		if !strings.HasPrefix(probe.Object, probe.Name+"-") {
			t.Errorf("%s was called %q in the cluster", probe.Name, probe.Object)
		}
	}
	if want := []string{"no-sidecar Verified", "mtls-disabled Refuted", "mtls-strict Verified"}; !slices.Equal(said, want) || got.code != plugin.ExitRefuted || parsed.Verdict != "Refuted" {
		t.Errorf("exit code %d, %s: %v, want %v", got.code, parsed.Verdict, said, want)
	}
	wantNothingLeft(t, ns)

	got = call(t, "run", "--task", "-n", ns, "-o", "junit", "--timeout", patience)
	for decoder := xml.NewDecoder(strings.NewReader(got.out)); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v: %s", err, got.out)
		}
	}
	if strings.Count(got.out, "<testsuite ") != 3 || strings.Count(got.out, "<failure ") != 4 {
		t.Errorf("want three suites and four failures: %s", got.out)
	}
}

// A probe that is there already is neither touched nor taken for the one that is run.
func TestRunLeavesNamesakesAlone(t *testing.T) {
	ns := namespace(t)
	there := newProbe(t, ns, "good")
	operator(t, ns, verified)
	got := callWith(t.Context(), good, "--kubeconfig", apiserver.Kubeconfig(withCRD), "run", "-n", ns, "-f", "-", "--timeout", patience)
	if got.code != plugin.ExitVerified || !strings.Contains(got.out, ns+"/good") {
		t.Errorf("got %+v", got)
	}
	after := &api.HTTPSMeshProbe{}
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(there), after); err != nil || after.UID != there.UID || after.Generation != there.Generation {
		t.Errorf("the namesake has changed: %v, %+v", err, after.ObjectMeta)
	}
}

func TestRunKeeps(t *testing.T) {
	ns := namespace(t)
	operator(t, ns, verified)
	got := call(t, "run", "--mtls", "STRICT", "-n", ns, "--keep", "--timeout", patience)
	var kept api.HTTPSMeshProbeList
	if err := admin.List(t.Context(), &kept, client.InNamespace(ns), client.MatchingLabels{"app.kubernetes.io/managed-by": "kubectl-meshprobe"}); err != nil {
		t.Fatal(err)
	}
	if len(kept.Items) != 1 || !strings.Contains(got.err, "kept: kubectl get hmp "+kept.Items[0].Name+" -n "+ns) {
		t.Errorf("%d probes are there, and it says %s", len(kept.Items), got.err)
	}
}

// Whoever interrupts a run leaves nothing behind; whoever does so twice is told what.
func TestInterruptedRun(t *testing.T) {
	for name, impatient := range map[string]bool{"once": false, "twice": true} {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t)
			ctx, interrupt := context.WithCancel(t.Context())
			hurry := make(chan struct{})
			operator(t, ns, starting, func(*api.HTTPSMeshProbe) {
				if impatient {
					close(hurry)
				}
				interrupt()
			})
			var out, complaint bytes.Buffer
			code := plugin.Run(ctx, plugin.Program{
				IOStreams: genericiooptions.IOStreams{Out: &out, ErrOut: &complaint}, Hurry: hurry,
				Arguments: []string{"--kubeconfig", apiserver.Kubeconfig(withCRD), "run", "--mtls", "STRICT", "-n", ns},
			})
			if code != plugin.ExitUnknown {
				t.Errorf("exit code %d, want %d", code, plugin.ExitUnknown)
			}
			if !impatient {
				if !strings.Contains(out.String(), "Interrupted: no verdict yet") {
					t.Errorf("it prints %s", out.String())
				}
				wantNothingLeft(t, ns)
				return
			}
			if !strings.Contains(complaint.String(), "error: left behind (interrupted again); remove with: kubectl delete hmp mtls-strict-") {
				t.Errorf("it says %s", complaint.String())
			}
		})
	}
}

// silent is an input that never comes, as from a person who does not type.
type silent struct{ until <-chan struct{} }

func (s silent) Read([]byte) (int, error) {
	<-s.until
	return 0, io.EOF
}

func TestInterruptedInput(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	var complaint bytes.Buffer
	code := plugin.Run(ctx, plugin.Program{
		IOStreams: genericiooptions.IOStreams{In: silent{t.Context().Done()}, Out: io.Discard, ErrOut: &complaint},
		Arguments: []string{"run", "-f", "-"},
	})
	if code != plugin.ExitUnknown || complaint.String() != "error: interrupted\n" {
		t.Errorf("exit code %d, %q", code, complaint.String())
	}
}

func TestGetPrints(t *testing.T) {
	ns := namespace(t)
	if got := call(t, "get", "-n", ns); got.code != plugin.ExitVerified || got.out != "" || got.err != "No resources found in "+ns+" namespace.\n" {
		t.Errorf("an empty namespace: %+v", got)
	}
	for _, name := range []string{"one", "two"} {
		probe := newProbe(t, ns, name)
		probe.Labels = map[string]string{"team": name}
		if err := admin.Update(t.Context(), probe); err != nil {
			t.Fatal(err)
		}
	}
	for arguments, want := range map[string]string{
		"get -o name":         "httpsmeshprobe.meshprobe.dev/one\nhttpsmeshprobe.meshprobe.dev/two\n",
		"get two one -o name": "httpsmeshprobe.meshprobe.dev/two\nhttpsmeshprobe.meshprobe.dev/one\n",
		"get hmp/two -o jsonpath={.metadata.name}":   "two",
		"get -o jsonpath={.items[*].spec.mtls.mode}": "STRICT STRICT",
		"get -l team=two -o name":                    "httpsmeshprobe.meshprobe.dev/two\n",
		"get -o go-template={{.kind}}":               "List",
	} {
		if got := call(t, append(strings.Fields(arguments), "-n", ns)...); got.code != plugin.ExitVerified || got.out != want {
			t.Errorf("%s: want %q, got %+v", arguments, want, got)
		}
	}
	got := call(t, "get", "-n", ns)
	lines := strings.Split(got.out, "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[0], "NAME   SIDECAR   MTLS     READY ") || !strings.HasPrefix(lines[1], "one    Enabled   STRICT   Unknown   ") {
		t.Errorf("the table is\n%s", got.out)
	}
	var list struct {
		Kind  string
		Items []api.HTTPSMeshProbe
	}
	if got := call(t, "get", "-n", ns, "-o", "json"); json.Unmarshal([]byte(got.out), &list) != nil || list.Kind != "List" || len(list.Items) != 2 || list.Items[0].ManagedFields != nil {
		t.Errorf("as JSON: %s", got.out)
	}
	if got := call(t, "get", "-A"); !strings.HasPrefix(got.out, "NAMESPACE") || !strings.Contains(got.out, ns) {
		t.Errorf("of all namespaces: %+v", got)
	}
}

// signalling tells when a line that holds part has been written.
type signalling struct {
	bytes.Buffer
	steps []step
}

type step struct {
	part string
	then func()
}

func (s *signalling) Write(p []byte) (int, error) {
	n, err := s.Buffer.Write(p)
	for len(s.steps) > 0 && strings.Contains(s.String(), s.steps[0].part) {
		then := s.steps[0].then
		s.steps = s.steps[1:]
		then()
	}
	return n, err
}

// A watch prints what is there, then what changes, and ends well when it is interrupted.
func TestGetWatches(t *testing.T) {
	ns := namespace(t)
	probe := newProbe(t, ns, "one")
	ctx, interrupt := context.WithTimeout(t.Context(), time.Minute)
	defer interrupt()
	out := &signalling{steps: []step{
		{"has not looked at the probe yet", func() {
			stalled(probe)
			if err := admin.Status().Update(ctx, probe); err != nil {
				t.Error(err)
			}
		}},
		{"Stalled, ServiceNotFound", func() { newProbe(t, ns, "two") }},
		{"\ntwo ", func() {
			if err := admin.Delete(ctx, probe); err != nil {
				t.Error(err)
			}
		}},
		{"deleted", interrupt},
	}}
	var complaint bytes.Buffer
	code := plugin.Run(ctx, plugin.Program{
		IOStreams: genericiooptions.IOStreams{Out: out, ErrOut: &complaint},
		Arguments: []string{"--kubeconfig", apiserver.Kubeconfig(withCRD), "get", "-w", "-n", ns},
	})
	if code != plugin.ExitVerified || complaint.String() != "" || len(out.steps) > 0 || strings.Count(out.String(), "NAME") != 1 {
		t.Errorf("exit code %d, %q, %d steps are missing after\n%s", code, complaint.String(), len(out.steps), out.String())
	}
}

func TestCompletion(t *testing.T) {
	ns := namespace(t)
	newProbe(t, ns, "strict")
	for arguments, want := range map[string]string{
		"__complete get -n " + ns + " ":        "strict\tsidecar Enabled, mTLS STRICT\n:4\n",
		"__complete get -n ":                   ns + "\n",
		"__complete run --mtls ":               "UNSET\nDISABLE\nPERMISSIVE\nSTRICT\n:4\n",
		"__complete trigger -o ":               "text\njson\njunit\ntap\n:4\n",
		"__complete ":                          "trigger\t",
		"completion kubectl":                   "#!/bin/sh\nexec kubectl-meshprobe __complete \"$@\"\n",
		"completion bash":                      "kubectl-meshprobe",
		"version":                              "kubectl-meshprobe test\n",
		"__complete get strict -n " + ns + " ": ":4\n",
	} {
		if got := call(t, strings.Split(arguments, " ")...); got.code != plugin.ExitVerified || !strings.Contains(got.out, want) {
			t.Errorf("%s: want %q, got %+v", arguments, want, got)
		}
	}
}
