package whatif_test

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/inventory"
	"github.com/meshprobe/httpsmeshprobe/internal/whatif"
)

var update = flag.Bool("update", false, "write the golden files anew")

var (
	noon  = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	place = inventory.Place{IstioNamespace: "istio-system", ClusterDomain: "cluster.local"}
)

func decode(t *testing.T, text []byte) (objects []client.Object) {
	t.Helper()
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		content := &unstructured.Unstructured{}
		if err := decoder.Decode(content); errors.Is(err, io.EOF) {
			return objects
		} else if err != nil {
			t.Fatal(err)
		}
		object, err := whatif.Decode(content)
		if err != nil {
			t.Fatalf("%s %s: %v", content.GetKind(), content.GetName(), err)
		}
		objects = append(objects, object)
	}
}

func answer(t *testing.T, question whatif.Question) []whatif.Forecast {
	t.Helper()
	question.Place, question.Now = place, noon
	forecasts, err := whatif.Answer(t.Context(), question)
	if err != nil {
		t.Fatal(err)
	}
	return forecasts
}

// The golden files show what a person reads of files alone.
func TestGoldenForecasts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if err := whatif.Write(&got, answer(t, whatif.Question{Files: decode(t, text)}), false); err != nil {
				t.Fatal(err)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("got:\n%s\nwant (%s):\n%s", got.String(), golden, want)
			}
		})
	}
}

const (
	shop = `
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
`
	web = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: nginx, image: nginx}]}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: https, port: 443}]}
---
apiVersion: meshprobe.dev/v1alpha1
kind: HTTPSMeshProbe
metadata: {name: web, namespace: shop}
spec:
  target: {sidecar: Enabled, service: {name: web}}
  mtls: {mode: STRICT}
---
`
	strict = `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
`
)

func TestOutcomes(t *testing.T) {
	for name, c := range map[string]struct {
		files   string
		removed []whatif.Reference
		want    api.Outcome
	}{
		"as declared":                       {shop + web + strict, nil, api.OutcomeMatch},
		"no policy":                         {shop + web, nil, api.OutcomeMismatch},
		"the policy taken away":             {shop + web + strict, []whatif.Reference{{Kind: "peerauthentication", Namespace: "shop", Name: "default"}}, api.OutcomeMismatch},
		"the pods taken away":               {shop + web + strict, []whatif.Reference{{Kind: "deployment", Namespace: "shop", Name: "web"}}, api.OutcomeUnknown},
		"a Service taken away":              {shop + web + strict, []whatif.Reference{{Kind: "service", Namespace: "shop", Name: "web"}}, api.OutcomeUnknown},
		"a port that Istio takes for HTTP":  {shop + strings.Replace(web, "name: https", "name: http-web", 1) + strict, nil, api.OutcomeUnknown},
		"a port that is not there":          {shop + strings.Replace(web, "port: 443", "port: 444", 1) + strict, nil, api.OutcomeUnknown},
		"a UDP port":                        {shop + strings.Replace(web, "port: 443", "port: 443, protocol: UDP", 1) + strict, nil, api.OutcomeUnknown},
		"an ExternalName":                   {shop + strings.Replace(web, "selector: {app: web}, ports", "type: ExternalName, externalName: a.example, ports", 1) + strict, nil, api.OutcomeUnknown},
		"a namespace of which nobody knows": {web + strict, nil, api.OutcomeMatch},
		"a rival that may be older":         {shop + web + strict + "---" + strings.NewReplacer("default", "zzz", "STRICT", "DISABLE").Replace(strict), nil, api.OutcomeUnknown},
		"a rival that asks for the same":    {shop + web + strict + "---" + strings.Replace(strict, "default", "zzz", 1), nil, api.OutcomeMatch},
		"injection taken away":              {strings.Replace(shop, "enabled", "disabled", 1) + web + strict, nil, api.OutcomeMismatch},
	} {
		forecasts := answer(t, whatif.Question{Files: decode(t, []byte(c.files)), Removed: c.removed})
		if len(forecasts) == 0 || forecasts[0].Subject != "HTTPSMeshProbe shop/web" {
			t.Errorf("%s: got %d forecasts, want one for the probe first", name, len(forecasts))
			continue
		}
		if got := forecasts[0].Outcome(); got != c.want {
			t.Errorf("%s: got %s, want %s (%s)", name, got, c.want, forecasts[0].Then.Policy)
		}
	}
}

func TestAProbeTakenAwayIsNoForecast(t *testing.T) {
	removed := []whatif.Reference{{Kind: "httpsmeshprobe", Namespace: "shop", Name: "web"}}
	forecasts := answer(t, whatif.Question{Files: decode(t, []byte(shop+web+strict)), Removed: removed})
	if len(forecasts) != 1 || forecasts[0].Declares || forecasts[0].Subject != "Service shop/web" {
		t.Errorf("got %+v, want the Service alone", forecasts)
	}
}

// A misspelt name would take nothing away, and the answer would be one to another question.
func TestWhatIsNotThereCannotBeLeftOut(t *testing.T) {
	removed := []whatif.Reference{{Kind: "peerauthentication", Namespace: "shop", Name: "defaultt"}}
	_, err := whatif.Answer(t.Context(), whatif.Question{Files: decode(t, []byte(shop+web+strict)), Removed: removed, Place: place, Now: noon})
	if err == nil || !strings.Contains(err.Error(), "peerauthentication/shop/defaultt is not among the files") {
		t.Errorf("got %v, want a complaint about the name", err)
	}
}

func TestParseReference(t *testing.T) {
	if got, err := whatif.ParseReference("PeerAuthentication/shop/legacy"); err != nil || got.String() != "peerauthentication/shop/legacy" {
		t.Errorf("got %s, %v", got, err)
	}
	for text, want := range map[string]string{"shop/legacy": "kind/namespace/name", "secret/shop/web": "kind secret bears on no path"} {
		if _, err := whatif.ParseReference(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want it to mention %q", text, err, want)
		}
	}
}

func TestTheSameObjectTwiceIsRefused(t *testing.T) {
	_, err := whatif.Answer(t.Context(), whatif.Question{Files: decode(t, []byte(shop+web+strict+"---"+strict)), Place: place, Now: noon})
	if err == nil || !strings.Contains(err.Error(), "peerauthentication/shop/default is there twice") {
		t.Errorf("got %v, want a complaint about the policy that is there twice", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, c := range map[string]struct{ object, want string }{
		"a misspelt field of a policy":  {`{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: a}, spec: {mtls: {mod: STRICT}}}`, `unknown field "mod"`},
		"an unknown mode of a policy":   {`{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: a}, spec: {mtls: {mode: STRIKT}}}`, "STRIKT"},
		"an unknown mode of a rule":     {`{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: a}, spec: {host: a, trafficPolicy: {tls: {mode: MUTUEL}}}}`, "MUTUEL"},
		"a misspelt field of a probe":   {`{apiVersion: meshprobe.dev/v1alpha1, kind: HTTPSMeshProbe, metadata: {name: a}, spec: {target: {sidecar: Enabled}, mtl: {mode: STRICT}}}`, `unknown field "mtl"`},
		"an unknown mode of a probe":    {`{apiVersion: meshprobe.dev/v1alpha1, kind: HTTPSMeshProbe, metadata: {name: a}, spec: {target: {sidecar: Enabled}, mtls: {mode: strict}}}`, `spec.mtls.mode is "strict"`},
		"a probe that lacks a sidecar":  {`{apiVersion: meshprobe.dev/v1alpha1, kind: HTTPSMeshProbe, metadata: {name: a}, spec: {}}`, `spec.target.sidecar is ""`},
		"a Service that is none at all": {`{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: 443}}`, "ports"},
	} {
		content := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(c.object), &content.Object); err != nil {
			t.Fatal(err)
		}
		if _, err := whatif.Decode(content); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want it to mention %s", name, err, c.want)
		}
	}
}
