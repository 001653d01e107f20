package observation

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

var noon = time.Date(2026, 11, 22, 12, 0, 0, 123456789, time.UTC)

// full has a value in every field, so that a field left out of the wire format is missed.
var full = Observation{
	ID: 7, Class: ClientCertificateRequired,
	Started: noon, Connected: time.Millisecond, Handshaken: 2 * time.Millisecond, Finished: 3 * time.Millisecond,
	Remote: "10.0.0.1:443", TLSVersion: "TLS 1.3", CipherSuite: "TLS_AES_128_GCM_SHA256",
	Leaf: &Certificate{
		SHA256: "00ff", URIs: []string{"spiffe://cluster.local/ns/a/sa/b"}, NotAfter: noon.Add(time.Hour),
		Chain: [][]byte{{0x30, 0x00}},
	},
	CertificateRequested: true, Alert: "certificate_required", HTTPCode: 200, Error: "remote error: tls: certificate required",
	Sent: &Sent{Cluster: "outbound|443||nginx.a.svc.cluster.local", Host: "10.1.0.1:8443", Handshakes: 1, Past: true, Error: "not counted"},
	Delivered: &Delivered{
		Listener: "10.0.0.1_443", Config: "/apis/networking.istio.io/v1/namespaces/a/virtual-service/lead", LegsLeftOut: 1, Error: "not read",
		Legs: []Leg{{
			Cluster: "outbound|443|v1|nginx.a.svc.cluster.local", Weight: 70, TLS: TLSByEndpoint, EndpointsLeftOut: 2, LeftOutTLS: TLSMutual,
			Config:    "/apis/networking.istio.io/v1/namespaces/a/destination-rule/shape",
			Endpoints: []LegEndpoint{{Address: "10.1.0.1:8443", TLS: TLSMutual}},
		}},
	},
}

// fullRequest has a value in every field too.
var fullRequest = Request{
	ID: 7, Address: "nginx.a.svc:443", ServerName: "nginx.a.svc", Path: "/", Timeout: 5 * time.Second,
	Chain: true, Count: &Count{Admin: "127.0.0.1:15000", Host: "nginx.a.svc.cluster.local", Port: 443},
	Hello: HelloForged, Identity: "spiffe://cluster.local/ns/a/sa/b",
}

// Operator and agent may be of different releases: what is on the wire changes on purpose or not at all.
func TestWireFormat(t *testing.T) {
	for name, message := range map[string]any{
		"full-request":      &fullRequest,
		"request":           &Request{ID: 7, Address: "nginx.a.svc:443", ServerName: "nginx.a.svc", Path: "/", Timeout: 5 * time.Second},
		"ping":              &Request{},
		"observation":       &full,
		"pong":              &Observation{},
		"without-evidence":  &Observation{ID: 8, Class: ConnectionRefused, Started: noon, Remote: "10.0.0.1:443", Error: "refused"},
		"past-envoy":        &Observation{ID: 10, Class: Answered, HTTPCode: 200, Sent: &Sent{Past: true}, Delivered: &Delivered{}},
		"mesh-hello":        &Request{ID: 11, Address: "10.1.0.1:8443", ServerName: "nginx.a.svc", Timeout: 5 * time.Second, Hello: HelloMesh},
		"without-uri-names": &Observation{ID: 9, Class: Answered, Leaf: &Certificate{SHA256: "00ff", NotAfter: noon}, HTTPCode: 503},
	} {
		t.Run(name, func(t *testing.T) {
			wire, err := json.Marshal(message)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(file, append(wire, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			golden, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(wire, bytes.TrimSuffix(golden, []byte("\n"))) {
				t.Errorf("got  %s\nwant %s", wire, golden)
			}
			back := reflect.New(reflect.TypeOf(message).Elem()).Interface()
			if err := json.Unmarshal(golden, back); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(back, message) {
				t.Errorf("read back as %+v, want %+v", back, message)
			}
		})
	}
}

func TestTheFullMessagesAreFull(t *testing.T) {
	for _, message := range []any{
		full, *full.Leaf, *full.Sent, *full.Delivered, full.Delivered.Legs[0], full.Delivered.Legs[0].Endpoints[0], fullRequest, *fullRequest.Count,
	} {
		value := reflect.ValueOf(message)
		for i := range value.NumField() {
			if value.Field(i).IsZero() {
				t.Errorf("%s.%s is not in the golden file: give it a value", value.Type(), value.Type().Field(i).Name)
			}
		}
	}
}

func TestSPIFFE(t *testing.T) {
	const id = "spiffe://cluster.local/ns/a/sa/b"
	for name, c := range map[string]struct {
		leaf *Certificate
		want string
	}{
		"no certificate":          {nil, ""},
		"no URI":                  {&Certificate{}, ""},
		"SPIFFE ID":               {&Certificate{URIs: []string{id}}, id},
		"SPIFFE ID after another": {&Certificate{URIs: []string{"https://a.example", id}}, id},
		"first of two":            {&Certificate{URIs: []string{id, "spiffe://other/ns/a/sa/b"}}, id},
		"another scheme":          {&Certificate{URIs: []string{"https://a.example/spiffe://cluster.local"}}, ""},
		"a scheme that begins so": {&Certificate{URIs: []string{"spiffe:cluster.local/ns/a"}}, ""},
		"nothing but the scheme":  {&Certificate{URIs: []string{"spiffe://"}}, ""},
		"empty":                   {&Certificate{URIs: []string{""}}, ""},
	} {
		if got := (Observation{Leaf: c.leaf}).SPIFFE(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// Whoever must treat every class relies on Classes; a constant that is missing there would be treated by nobody.
func TestEveryClassIsListed(t *testing.T) {
	declared := constantsOf(t, "observation.go", "Class")
	if len(declared) == 0 {
		t.Fatal("no constant of the type Class was found")
	}
	listed := Classes()
	for _, class := range declared {
		if !slices.Contains(listed, Class(class)) {
			t.Errorf("%s is not in Classes()", class)
		}
	}
	slices.Sort(listed)
	if got := len(slices.Compact(listed)); got != len(Classes()) || got != len(declared) {
		t.Errorf("Classes() has %d entries, %d of them different; %d are declared", len(Classes()), got, len(declared))
	}
}

func constantsOf(t *testing.T, file, typeName string) []string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	ast.Inspect(parsed, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		name, ok := spec.Type.(*ast.Ident)
		if !ok || name.Name != typeName {
			return true
		}
		for i, value := range spec.Values {
			text, err := strconv.Unquote(value.(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			if text != spec.Names[i].Name {
				t.Errorf("the constant %s is %q on the wire", spec.Names[i].Name, text)
			}
			values = append(values, text)
		}
		return true
	})
	return values
}
