package v1alpha1_test

import (
	"reflect"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

const (
	badInterval  = "interval must be a duration such as 30s, 5m or 1h30m"
	badTimeout   = "timeout must be a duration such as 500ms or 5s"
	overlap      = "timeout (5s where it is not set) must be shorter than interval, or runs would overlap: lower timeout or raise interval"
	needsSidecar = "mtls.mode STRICT and PERMISSIVE are enforced by a sidecar, and target.sidecar is Disabled: set target.sidecar to Enabled, or mtls.mode to DISABLE or UNSET"
	badRevision  = "revision must be a revision or revision tag of Istio: lower-case letters, digits and '-', beginning and ending with a letter or digit"
	badName      = "metadata.name must begin with a letter and hold only lower-case letters, digits and '-': the probe's Service is named after it"
	longName     = "metadata.name must be 52 characters or fewer: the objects made for the probe are named after it"
)

// refusedSpecs holds, beside every spec that is refused, the whole sentence that a person reads about it.
var refusedSpecs = []struct{ spec, says string }{
	{`{}`, `spec.target: Required value`},
	{`{target: {}}`, `spec.target.sidecar: Required value`},
	{`{target: {sidecar: enabled}}`, `spec.target.sidecar: Unsupported value: "enabled": supported values: "Enabled", "Disabled"`},
	{`{target: Enabled}`, `spec.target: Invalid value: "string": spec.target in body must be of type object: "string"`},

	{`{target: {sidecar: Disabled}, mtls: {mode: STRICT}}`, `spec.mtls.mode: Invalid value: ` + needsSidecar},
	{`{target: {sidecar: Disabled}, mtls: {mode: PERMISSIVE}}`, `spec.mtls.mode: Invalid value: ` + needsSidecar},
	{`{target: {sidecar: Enabled}, mtls: {mode: strict}}`, `spec.mtls.mode: Unsupported value: "strict": supported values: "UNSET", "DISABLE", "PERMISSIVE", "STRICT"`},
	{`{target: {sidecar: Enabled}, mtls: {mode: ""}}`, `spec.mtls.mode: Unsupported value: "": supported values: "UNSET", "DISABLE", "PERMISSIVE", "STRICT"`},

	{`{target: {sidecar: Enabled}, interval: abc}`, `spec.interval: Invalid value: "abc": ` + badInterval},
	{`{target: {sidecar: Enabled}, interval: ""}`, `spec.interval: Invalid value: "": ` + badInterval},
	{`{target: {sidecar: Enabled}, interval: "60"}`, `spec.interval: Invalid value: "60": ` + badInterval},
	{`{target: {sidecar: Enabled}, interval: "1d"}`, `spec.interval: Invalid value: "1d": ` + badInterval},
	{`{target: {sidecar: Enabled}, interval: "1 m"}`, `spec.interval: Invalid value: "1 m": ` + badInterval},
	{`{target: {sidecar: Enabled}, interval: "-1m"}`, `spec.interval: Invalid value: "-1m": ` + badInterval},
	{`{target: {sidecar: Enabled}, interval: "99999999999h"}`, `spec.interval: Invalid value: "99999999999h": ` + badInterval},
	{`{target: {sidecar: Enabled}, interval: 60}`, `spec.interval: Invalid value: "integer": spec.interval in body must be of type string: "integer"`},
	{`{target: {sidecar: Enabled}, interval: 4999ms, timeout: 1s}`, `spec.interval: Invalid value: "4999ms": interval must be 5s or more`},
	{`{target: {sidecar: Enabled}, interval: 24h0m1s}`, `spec.interval: Invalid value: "24h0m1s": interval must be 24h or less`},
	{`{target: {sidecar: Enabled}, interval: 99999h99999h99999h99999h}`, `spec.interval: Invalid value: "99999h99999h99999h99999h": interval must be 24h or less`},

	{`{target: {sidecar: Enabled}, timeout: soon}`, `spec.timeout: Invalid value: "soon": ` + badTimeout},
	{`{target: {sidecar: Enabled}, timeout: "0"}`, `spec.timeout: Invalid value: "0": ` + badTimeout},
	{`{target: {sidecar: Enabled}, timeout: 0s}`, `spec.timeout: Invalid value: "0s": timeout must be 100ms or more`},
	{`{target: {sidecar: Enabled}, timeout: 99.9ms}`, `spec.timeout: Invalid value: "99.9ms": timeout must be 100ms or more`},
	{`{target: {sidecar: Enabled}, timeout: 61s, interval: 1h}`, `spec.timeout: Invalid value: "61s": timeout must be 1m or less`},
	{`{target: {sidecar: Enabled}, timeout: 1m}`, `spec.timeout: Invalid value: ` + overlap},
	{`{target: {sidecar: Enabled}, timeout: 20s, interval: 10s}`, `spec.timeout: Invalid value: ` + overlap},
	// The time-out that is in the way here is the default, which the person has not written.
	{`{target: {sidecar: Enabled}, interval: 5s}`, `spec.timeout: Invalid value: ` + overlap},

	{`{target: {sidecar: Enabled}, failureThreshold: 0}`, `spec.failureThreshold: Invalid value: 0: spec.failureThreshold in body should be greater than or equal to 1`},
	{`{target: {sidecar: Enabled}, failureThreshold: 11}`, `spec.failureThreshold: Invalid value: 11: spec.failureThreshold in body should be less than or equal to 10`},

	{`{target: {sidecar: Enabled}, revision: Canary}`, `spec.revision: Invalid value: "Canary": ` + badRevision},
	{`{target: {sidecar: Enabled}, revision: "1.31"}`, `spec.revision: Invalid value: "1.31": ` + badRevision},
	{`{target: {sidecar: Enabled}, revision: canary-}`, `spec.revision: Invalid value: "canary-": ` + badRevision},
	{`{target: {sidecar: Enabled}, revision: ` + strings.Repeat("a", 41) + `}`, `spec.revision: Too long: may not be more than 40 bytes`},

	{`{target: {sidecar: Enabled}, suspend: maybe}`, `spec.suspend: Invalid value: "string": spec.suspend in body must be of type boolean: "string"`},
}

func TestRefusedSpecs(t *testing.T) {
	ctx := needAPIServer(t)
	namespace := newNamespace(t, ctx)
	for _, c := range refusedSpecs {
		t.Run(c.spec, func(t *testing.T) {
			err := asClient.Create(ctx, probe(t, namespace, "strict", c.spec))
			if !apierrors.IsInvalid(err) {
				t.Fatalf("not refused as invalid: %v", err)
			}
			if said := complaint(err); said != c.says {
				t.Errorf("a person reads\n  %s\nand should read\n  %s", said, c.says)
			}
		})
	}
}

func TestRefusedNames(t *testing.T) {
	ctx := needAPIServer(t)
	namespace := newNamespace(t, ctx)
	for name, says := range map[string]string{
		strings.Repeat("a", 53): longName,
		"meshprobe-sleep":       "metadata.name must not begin with 'meshprobe-': the clients that probes share are named so",
		"a.b":                   badName,
		"1st":                   badName,
		// The API server itself says this, and more, of every resource.
		"Strict":  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters",
		"strict-": "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters",
	} {
		err := asClient.Create(ctx, probe(t, namespace, name, `{target: {sidecar: Enabled}}`))
		if !apierrors.IsInvalid(err) || !strings.Contains(complaint(err), says) {
			t.Errorf("%s: %v, want %q", name, err, says)
		}
	}
	for _, name := range []string{"a", "a1", "mtls-strict", strings.Repeat("a", 52)} {
		if err := asClient.Create(ctx, probe(t, namespace, name, `{target: {sidecar: Enabled}}`)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// defaulted is the spec of a probe that says nothing but that it wants a sidecar.
func defaulted() map[string]any {
	return map[string]any{
		"target": map[string]any{"sidecar": "Enabled", "path": "/"}, "mtls": map[string]any{"mode": "UNSET", "clientMode": "UNSET"},
		"interval": "1m", "timeout": "5s", "failureThreshold": int64(2), "suspend": false,
	}
}

func TestAcceptedSpecs(t *testing.T) {
	namespace := newNamespace(t, needAPIServer(t))
	for _, c := range []struct{ spec, reads string }{
		{`{target: {sidecar: Enabled}}`, `{}`},
		{`{target: {sidecar: Enabled}, mtls: {}}`, `{}`},
		{`{target: {sidecar: Enabled}, mtls: null, interval: null, timeout: null, failureThreshold: null, suspend: null}`, `{}`},
		{`{target: {sidecar: Disabled}}`, `{target: {sidecar: Disabled}}`},
		{`{target: {sidecar: Disabled}, mtls: {mode: DISABLE}}`, `{target: {sidecar: Disabled}, mtls: {mode: DISABLE}}`},
		{`{target: {sidecar: Enabled}, mtls: {mode: DISABLE}}`, `{mtls: {mode: DISABLE}}`},
		{`{target: {sidecar: Enabled}, mtls: {mode: PERMISSIVE}}`, `{mtls: {mode: PERMISSIVE}}`},
		{`{target: {sidecar: Enabled}, mtls: {mode: STRICT}}`, `{mtls: {mode: STRICT}}`},
		{`{target: {sidecar: Enabled}, interval: 5s, timeout: 4.9s}`, `{interval: 5s, timeout: 4.9s}`},
		{`{target: {sidecar: Enabled}, interval: 24h, timeout: 1m}`, `{interval: 24h, timeout: 1m}`},
		{`{target: {sidecar: Enabled}, interval: 86400s, timeout: 100ms}`, `{interval: 86400s, timeout: 100ms}`},
		// As Go clients spell one and a half minutes.
		{`{target: {sidecar: Enabled}, interval: 1m30s}`, `{interval: 1m30s}`},
		{`{target: {sidecar: Enabled}, interval: 24h0m0s, timeout: 1m0s}`, `{interval: 24h0m0s, timeout: 1m0s}`},
		{`{target: {sidecar: Enabled}, failureThreshold: 1}`, `{failureThreshold: 1}`},
		{`{target: {sidecar: Enabled}, failureThreshold: 10}`, `{failureThreshold: 10}`},
		{`{target: {sidecar: Enabled}, suspend: true}`, `{suspend: true}`},
		{`{target: {sidecar: Enabled}, revision: ""}`, `{revision: ""}`},
		{`{target: {sidecar: Enabled}, revision: 1-31-0}`, `{revision: 1-31-0}`},
		{`{target: {sidecar: Enabled}, revision: ` + strings.Repeat("a", 40) + `}`, `{revision: ` + strings.Repeat("a", 40) + `}`},
	} {
		t.Run(c.spec, func(t *testing.T) { wantAccepted(t, namespace, c.spec, c.reads) })
	}
}

// wantAccepted creates a probe, holds what is read against the defaults, changed as reads says, and deletes it.
func wantAccepted(t *testing.T, namespace, spec, reads string) {
	t.Helper()
	written := probe(t, namespace, "accepted", spec)
	if err := asClient.Create(t.Context(), written, client.FieldValidation("Strict")); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := asClient.Delete(t.Context(), written); err != nil {
			t.Error(err)
		}
	}()
	wantRead(t, read(t, namespace, "accepted"), reads)
	// One probe that Go cannot decode would keep the operator from seeing any.
	if err := asClient.Get(t.Context(), client.ObjectKeyFromObject(written), &api.HTTPSMeshProbe{}); err != nil {
		t.Errorf("the operator cannot read it: %v", err)
	}
}

func read(t *testing.T, namespace, name string) *unstructured.Unstructured {
	t.Helper()
	got := probe(t, namespace, name, "{}")
	if err := asClient.Get(t.Context(), client.ObjectKeyFromObject(got), got); err != nil {
		t.Fatal(err)
	}
	return got
}

// wantRead holds a stored probe against the defaults, changed in the fields that are named.
func wantRead(t *testing.T, got *unstructured.Unstructured, changed string) {
	t.Helper()
	want := defaulted()
	named := map[string]any{}
	if err := yaml.Unmarshal([]byte(changed), &named); err != nil {
		t.Fatal(err)
	}
	merge(want, named)
	if !reflect.DeepEqual(got.Object["spec"], want) {
		t.Errorf("spec is read as\n  %v\nwant\n  %v", got.Object["spec"], want)
	}
	if status := map[string]any{"observedGeneration": int64(-1)}; !reflect.DeepEqual(got.Object["status"], status) {
		t.Errorf("status is read as %v, want %v", got.Object["status"], status)
	}
}

// merge puts the fields of changes into into, in whatever depth. YAML is read as JSON, whose numbers are all floats.
func merge(into, changes map[string]any) {
	for field, value := range changes {
		inner, isMap := value.(map[string]any)
		present, both := into[field].(map[string]any)
		switch number, isNumber := value.(float64); {
		case isMap && both:
			merge(present, inner)
		case isMap:
			into[field] = map[string]any{}
			merge(into[field].(map[string]any), inner)
		case isNumber:
			into[field] = int64(number)
		default:
			into[field] = value
		}
	}
}

func TestUnknownFields(t *testing.T) {
	ctx := needAPIServer(t)
	namespace := newNamespace(t, ctx)
	const spec = `{target: {sidecar: Enabled, host: other}, mtls: {meshMode: DISABLE}, retries: 3}`
	err := asClient.Create(ctx, probe(t, namespace, "strictly", spec), client.FieldValidation("Strict"))
	const says = `unknown field "spec.mtls.meshMode", unknown field "spec.retries", unknown field "spec.target.host"`
	if err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("kubectl, which asks strictly, reads %v", err)
	}
	if err := asClient.Create(ctx, probe(t, namespace, "ignored", spec), client.FieldValidation("Ignore")); err != nil {
		t.Fatal(err)
	}
	wantRead(t, read(t, namespace, "ignored"), "{}")
}

func TestUpdatesAreHeldAgainstTheSameRules(t *testing.T) {
	ctx := needAPIServer(t)
	namespace := newNamespace(t, ctx)
	if err := asClient.Create(ctx, probe(t, namespace, "strict", `{target: {sidecar: Enabled}, mtls: {mode: STRICT}}`)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ patch, says string }{
		{`{"spec":{"target":{"sidecar":"Disabled"}}}`, `spec.mtls.mode: Invalid value: ` + needsSidecar},
		{`{"spec":{"interval":"5s"}}`, `spec.timeout: Invalid value: ` + overlap},
		{`{"spec":{"interval":"abc"}}`, `spec.interval: Invalid value: "abc": ` + badInterval},
		{`{"spec":{"target":null}}`, `spec.target: Required value`},
		{`{"spec":null}`, `spec: Required value`},
	} {
		err := asClient.Patch(ctx, read(t, namespace, "strict"), client.RawPatch("application/merge-patch+json", []byte(c.patch)))
		if !apierrors.IsInvalid(err) || complaint(err) != c.says {
			t.Errorf("%s: a person reads\n  %v\nand should read\n  %s", c.patch, err, c.says)
		}
	}
	changed := read(t, namespace, "strict")
	const patch = `{"spec":{"target":{"sidecar":"Disabled"},"mtls":null,"interval":"2m"}}`
	if err := asClient.Patch(ctx, changed, client.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
		t.Fatal(err)
	}
	wantRead(t, read(t, namespace, "strict"), `{target: {sidecar: Disabled}, interval: 2m}`)
	if generation := changed.GetGeneration(); generation != 2 {
		t.Errorf("a changed spec is generation %d, want 2", generation)
	}
}
