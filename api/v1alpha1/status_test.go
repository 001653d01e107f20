package v1alpha1_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// verdicts are the golden files of internal/verdict: whole probes with every kind of status that the operator writes.
const verdicts = "../../internal/verdict/testdata"

func verdictNames(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(verdicts, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files in %s: %v", verdicts, err)
	}
	names := make([]string, 0, len(files))
	for _, file := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(file), ".yaml"))
	}
	return names
}

// createJudged creates the probe of a golden file and gives it its status.
func createJudged(t *testing.T, namespace, verdict string) *unstructured.Unstructured {
	t.Helper()
	written := &unstructured.Unstructured{}
	golden, err := os.ReadFile(filepath.Join(verdicts, verdict+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(golden, &written.Object); err != nil {
		t.Fatal(err)
	}
	written.SetNamespace(namespace)
	written.SetName(verdict)
	status := written.Object["status"]
	if err := asClient.Create(t.Context(), written); err != nil {
		t.Fatal(err)
	}
	written.Object["status"] = status
	if err := asClient.Status().Update(t.Context(), written, client.FieldValidation("Strict")); err != nil {
		t.Fatal(err)
	}
	return written
}

// What the operator writes is accepted, and comes back as it was written.
func TestEveryVerdictIsAccepted(t *testing.T) {
	ctx := needAPIServer(t)
	namespace := newNamespace(t, ctx)
	for _, name := range verdictNames(t) {
		t.Run(name, func(t *testing.T) {
			written := createJudged(t, namespace, name)
			got := read(t, namespace, name)
			golden := &unstructured.Unstructured{}
			content, err := os.ReadFile(filepath.Join(verdicts, name+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			if err := yaml.Unmarshal(content, &golden.Object); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(asJSON(t, got.Object["status"]), asJSON(t, golden.Object["status"])) {
				t.Errorf("status is read as\n  %v\nwant\n  %v", got.Object["status"], golden.Object["status"])
			}
			if written.GetGeneration() != 1 {
				t.Errorf("a written status makes generation %d", written.GetGeneration())
			}
		})
	}
}

func asJSON(t *testing.T, value any) string {
	t.Helper()
	encoded, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded)
}

func TestTheStatusIsTheOperators(t *testing.T) {
	ctx := needAPIServer(t)
	namespace := newNamespace(t, ctx)
	forged := probe(t, namespace, "forged", `{target: {sidecar: Enabled}}`)
	forged.Object["status"] = map[string]any{"observedGeneration": int64(1), "conditions": []any{map[string]any{
		"type": "Ready", "status": "True", "reason": "Verified", "message": "believe me", "lastTransitionTime": "2026-03-01T12:00:00Z",
	}}}
	if err := asClient.Create(ctx, forged); err != nil {
		t.Fatal(err)
	}
	wantRead(t, read(t, namespace, "forged"), "{}")
}

func TestStatusLimits(t *testing.T) {
	ctx := needAPIServer(t)
	namespace := newNamespace(t, ctx)
	if err := asClient.Create(ctx, probe(t, namespace, "limits", `{target: {sidecar: Enabled}}`)); err != nil {
		t.Fatal(err)
	}
	text := func(length int) string { return strings.Repeat("x", length) }
	for _, c := range []struct{ path, says string }{
		{`{"name":"proxy"}`, `Unsupported value: "proxy": supported values: "sleep", "istio-proxy", "outsider"`},
		{`{"name":"sleep","outcome":"Pass"}`, `Unsupported value: "Pass": supported values: "Match", "Mismatch", "Unknown"`},
		{`{"name":"sleep","message":"` + text(1025) + `"}`, "message: Too long"},
		{`{"name":"sleep","peer":"` + text(513) + `"}`, "peer: Too long"},
		{`{"name":"sleep","observed":"` + text(65) + `"}`, "observed: Too long"},
		{`{"name":"sleep","expected":"` + text(65) + `"}`, "expected: Too long"},
		{`{"name":"sleep","alert":"` + text(65) + `"}`, "alert: Too long"},
		{`{"name":"sleep","cipherSuite":"` + text(65) + `"}`, "cipherSuite: Too long"},
		{`{"name":"sleep","tlsVersion":"` + text(17) + `"}`, "tlsVersion: Too long"},
		{`{"name":"sleep"},{"name":"sleep"}`, "Duplicate value"},
		{`{"outcome":"Match"}`, "name: Required value"},
		{`{"name":"sleep","encryption":"TLS"}`, `Unsupported value: "TLS": supported values: "MutualTLS", "Plaintext", "Unknown"`},
		{`{"name":"sleep","expectedReason":"` + text(257) + `"}`, "expectedReason: Too long"},
		{`{"name":"sleep","endpoints":{"examples":[` + strings.Repeat(`{"name":"a"},`, 5) + `{"name":"a"}]}}`, "examples: Too many: 6: must have at most 5 items"},
		{`{"name":"sleep","endpoints":{"examples":[{"name":"` + text(254) + `"}]}}`, "examples[0].name: Too long"},
		{`{"name":"sleep","endpoints":{"examples":[{"name":"a","address":"` + text(65) + `"}]}}`, "examples[0].address: Too long"},
		{`{"name":"sleep","endpoints":{"examples":[{"name":"a","observed":"` + text(65) + `"}]}}`, "examples[0].observed: Too long"},
		{`{"name":"sleep","endpoints":{"examples":[{"name":"a","message":"` + text(513) + `"}]}}`, "examples[0].message: Too long"},
	} {
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"status":{"paths":[`+c.path+`]}}`))
		err := asClient.Status().Patch(ctx, read(t, namespace, "limits"), patch)
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%.60s: %.300v, want %q", c.path, err, c.says)
		}
	}
	for _, c := range []struct{ status, says string }{
		{`{"lastHandledRequest":"` + text(257) + `"}`, "lastHandledRequest: Too long"},
		{`{"certificate":{"sha256":"` + text(65) + `"}}`, "certificate.sha256: Too long"},
		{`{"lastPolicyChange":{"object":"` + text(513) + `"}}`, "lastPolicyChange.object: Too long"},
		{`{"lastPolicyChange":{"from":"` + text(129) + `"}}`, "lastPolicyChange.from: Too long"},
		{`{"lastPolicyChange":{"to":"` + text(129) + `"}}`, "lastPolicyChange.to: Too long"},
	} {
		err := asClient.Status().Patch(ctx, read(t, namespace, "limits"), client.RawPatch("application/merge-patch+json", []byte(`{"status":`+c.status+`}`)))
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%.60s: %.300v, want %q", c.status, err, c.says)
		}
	}
	longest := `{"status":{"paths":[{"name":"sleep","message":"` + text(1024) + `","peer":"` + text(512) + `","observed":"` + text(64) + `","tlsVersion":"` + text(16) + `"}]}}`
	if err := asClient.Status().Patch(ctx, read(t, namespace, "limits"), client.RawPatch("application/merge-patch+json", []byte(longest))); err != nil {
		t.Errorf("texts of exactly the limits: %v", err)
	}
}

// kubectl get hmp alone tells the story.
func TestPrinterColumns(t *testing.T) {
	ctx := needAPIServer(t)
	namespace := newNamespace(t, ctx)
	for _, name := range []string{"strict-verified", "strict-refuted", "strict-nginx-down", "stalled"} {
		createJudged(t, namespace, name)
	}
	if err := asClient.Create(ctx, probe(t, namespace, "untouched", `{target: {sidecar: Disabled}}`)); err != nil {
		t.Fatal(err)
	}
	table := asTable(t, namespace)
	wantColumns(t, table, "Name Sidecar mTLS Ready Sleep Istio-Proxy Outsider Checked Age Reason* Message*")
	want := map[string][]any{
		"strict-verified":   {"Enabled", "UNSET", "True", "200", "refused", "refused", "Verified"},
		"strict-refuted":    {"Enabled", "UNSET", "False", "200", "200", "refused", "Refuted"},
		"strict-nginx-down": {"Enabled", "UNSET", "False", "closed", "refused", "refused", "Refuted"},
		"stalled":           {"Enabled", "UNSET", "False", nil, nil, nil, "NameTaken"},
		"untouched":         {"Disabled", "UNSET", nil, nil, nil, nil, nil},
	}
	for _, row := range table.Rows {
		cells := row.Cells
		name := cells[0].(string)
		// Checked and Age are ages, which pass.
		told := append(append([]any{}, cells[1:7]...), cells[9])
		if !reflect.DeepEqual(told, want[name]) {
			t.Errorf("%s is told as %v, want %v", name, told, want[name])
		}
		judged := want[name][3] != nil
		if checked := cells[7] != nil; checked != judged {
			t.Errorf("%s: Checked is %v", name, cells[7])
		}
		if cells[8] == nil {
			t.Errorf("%s has no age", name)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("not in the table: %v", want)
	}
}

// asTable asks as kubectl get does.
func asTable(t *testing.T, namespace string) *metav1.Table {
	t.Helper()
	httpClient, err := rest.HTTPClientFor(apiServer)
	if err != nil {
		t.Fatal(err)
	}
	address, err := url.JoinPath(apiServer.Host, "apis", "meshprobe.dev", "v1alpha1", "namespaces", namespace, "httpsmeshprobes")
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	response, err := httpClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", response.Status, body, err)
	}
	table := &metav1.Table{}
	if err := json.Unmarshal(body, table); err != nil {
		t.Fatal(err)
	}
	return table
}

// wantColumns holds the columns' names against a line; a star marks those that only -o wide shows.
func wantColumns(t *testing.T, table *metav1.Table, want string) {
	t.Helper()
	var names []string
	for _, column := range table.ColumnDefinitions {
		name := column.Name
		if column.Priority > 0 {
			name += "*"
		}
		names = append(names, name)
	}
	if got := strings.Join(names, " "); got != want {
		t.Errorf("columns %s, want %s", got, want)
	}
}

func TestShortNameAndCategory(t *testing.T) {
	ctx := needAPIServer(t)
	definition := &unstructured.Unstructured{}
	definition.SetAPIVersion("apiextensions.k8s.io/v1")
	definition.SetKind("CustomResourceDefinition")
	definition.SetName("httpsmeshprobes.meshprobe.dev")
	if err := asClient.Get(ctx, client.ObjectKeyFromObject(definition), definition); err != nil {
		t.Fatal(err)
	}
	short, _, _ := unstructured.NestedStringSlice(definition.Object, "status", "acceptedNames", "shortNames")
	categories, _, _ := unstructured.NestedStringSlice(definition.Object, "status", "acceptedNames", "categories")
	if !reflect.DeepEqual(short, []string{"hmp"}) || !reflect.DeepEqual(categories, []string{"all"}) {
		t.Errorf("short names %v, categories %v", short, categories)
	}
}
