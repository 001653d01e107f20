package v1alpha1_test

import (
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

const (
	badServiceName = "service.name must be a Service's name: lower-case letters, digits and '-', beginning with a letter"
	badNamespace   = "service.namespace must be a namespace's name: lower-case letters, digits and '-'"
	badPort        = "service.port must be a port number from 1 to 65535, without quotes, or the name of a port"
	badPath        = "path must begin with / and hold neither spaces nor characters that a URL has to escape"
	badServerName  = "serverName must be a DNS name such as shop.example.com, without port"
	badObjectName  = "name must be the name of a ConfigMap or Secret: lower-case letters, digits, '-' and '.'"
	badSecretName  = "secretName must be the name of a Secret: lower-case letters, digits, '-' and '.'"
	oneCA          = "ca must name either a configMap or a secret"
	oneServer      = "target.certificate is for the server that the operator runs, and target.service names one that is already there: remove one of them"
	otherProbe     = "target.service can be neither added nor removed: a probe with a server of its own and a probe of a Service that is already there are two probes; delete this one and create the other"
	badSee         = "see must be an HTTP status code from 100 to 599, refused or denied"
	noReason       = "reason must say why this path is expected to see something else than the policy promises"
)

// refusedTargets are refused as refusedSpecs are. Each is put behind "sidecar: Enabled".
var refusedTargets = []struct{ target, says string }{
	{`service: {}`, `spec.target.service.name: Required value`},
	{`service: shop`, `spec.target.service: Invalid value: "string": spec.target.service in body must be of type object: "string"`},
	{`service: {name: ""}`, `spec.target.service.name: Invalid value: "": ` + badServiceName},
	{`service: {name: Shop}`, `spec.target.service.name: Invalid value: "Shop": ` + badServiceName},
	{`service: {name: shop.shop}`, `spec.target.service.name: Invalid value: "shop.shop": ` + badServiceName},
	{`service: {name: shop-}`, `spec.target.service.name: Invalid value: "shop-": ` + badServiceName},
	{`service: {name: "443"}`, `spec.target.service.name: Invalid value: "443": ` + badServiceName},
	{`service: {name: ` + strings.Repeat("a", 64) + `}`, `spec.target.service.name: Too long: may not be more than 63 bytes`},
	{`service: {name: shop, namespace: Shop}`, `spec.target.service.namespace: Invalid value: "Shop": ` + badNamespace},
	{`service: {name: shop, namespace: a/b}`, `spec.target.service.namespace: Invalid value: "a/b": ` + badNamespace},
	{`service: {name: shop, namespace: ` + strings.Repeat("a", 64) + `}`, `spec.target.service.namespace: Too long: may not be more than 63 bytes`},

	{`service: {name: shop, port: 0}`, `spec.target.service.port: Invalid value: 0: ` + badPort},
	{`service: {name: shop, port: -1}`, `spec.target.service.port: Invalid value: -1: ` + badPort},
	{`service: {name: shop, port: 65536}`, `spec.target.service.port: Invalid value: 65536: ` + badPort},
	// A number in quotes would be looked for among the names.
	{`service: {name: shop, port: "443"}`, `spec.target.service.port: Invalid value: "443": ` + badPort},
	{`service: {name: shop, port: "0"}`, `spec.target.service.port: Invalid value: "0": ` + badPort},
	{`service: {name: shop, port: ""}`, `spec.target.service.port: Invalid value: "": ` + badPort},
	{`service: {name: shop, port: HTTPS}`, `spec.target.service.port: Invalid value: "HTTPS": ` + badPort},
	{`service: {name: shop, port: "https-"}`, `spec.target.service.port: Invalid value: "https-": ` + badPort},
	{`service: {name: shop, port: "https web"}`, `spec.target.service.port: Invalid value: "https web": ` + badPort},
	{`service: {name: shop, port: "` + strings.Repeat("a", 64) + `"}`, `spec.target.service.port: Invalid value: "` + strings.Repeat("a", 64) + `": ` + badPort},

	{`path: ""`, `spec.target.path: Invalid value: "": ` + badPath},
	{`path: index.html`, `spec.target.path: Invalid value: "index.html": ` + badPath},
	{`path: "https://shop/"`, `spec.target.path: Invalid value: "https://shop/": ` + badPath},
	{`path: "/a b"`, `spec.target.path: Invalid value: "/a b": ` + badPath},
	{`path: "/ä"`, `spec.target.path: Invalid value: "/ä": ` + badPath},
	// It goes into the request line as it is.
	{`path: "/a\nHost: other"`, `spec.target.path: Invalid value: "/a\nHost: other": ` + badPath},
	{`path: "/a\r\n"`, `spec.target.path: Invalid value: "/a\r\n": ` + badPath},
	{`path: /` + strings.Repeat("a", 1024), `spec.target.path: Too long: may not be more than 1024 bytes`},

	{`serverName: "shop.example.com:443"`, `spec.target.serverName: Invalid value: "shop.example.com:443": ` + badServerName},
	{`serverName: "https://shop"`, `spec.target.serverName: Invalid value: "https://shop": ` + badServerName},
	{`serverName: "*.example.com"`, `spec.target.serverName: Invalid value: "*.example.com": ` + badServerName},
	{`serverName: shop.`, `spec.target.serverName: Invalid value: "shop.": ` + badServerName},
	{`serverName: "a\nb"`, `spec.target.serverName: Invalid value: "a\nb": ` + badServerName},
	{`serverName: ` + strings.Repeat("a", 254), `spec.target.serverName: Too long: may not be more than 253 bytes`},

	{`service: {name: shop}, ca: {}`, `spec.target.ca: Invalid value: ` + oneCA},
	{`service: {name: shop}, ca: {configMap: {name: a}, secret: {name: b}}`, `spec.target.ca: Invalid value: ` + oneCA},
	{`service: {name: shop}, ca: {configMap: {}}`, `spec.target.ca.configMap.name: Required value`},
	{`service: {name: shop}, ca: {secret: {key: ca.crt}}`, `spec.target.ca.secret.name: Required value`},
	{`service: {name: shop}, ca: {configMap: {name: ""}}`, `spec.target.ca.configMap.name: Invalid value: "": ` + badObjectName},
	{`service: {name: shop}, ca: {secret: {name: ../other}}`, `spec.target.ca.secret.name: Invalid value: "../other": ` + badObjectName},
	{`service: {name: shop}, ca: {secret: {name: shop/tls}}`, `spec.target.ca.secret.name: Invalid value: "shop/tls": ` + badObjectName},
	{`ca: {configMap: {name: root}}`, `spec.target.ca: Invalid value: target.ca is for a Service that is already there; the server that the operator runs is known by its certificate: remove ca, or name the service`},
	{`ca: root`, `spec.target.ca: Invalid value: "string": spec.target.ca in body must be of type object: "string"`},

	{`certificate: {}`, `spec.target.certificate.secretName: Required value`},
	{`certificate: {secretName: ""}`, `spec.target.certificate.secretName: Invalid value: "": ` + badSecretName},
	{`certificate: {secretName: shop/tls}`, `spec.target.certificate.secretName: Invalid value: "shop/tls": ` + badSecretName},
	{`service: {name: shop}, certificate: {secretName: tls}`, `spec.target.certificate: Invalid value: ` + oneServer},
}

func TestRefusedTargets(t *testing.T) {
	ctx := needAPIServer(t)
	namespace := newNamespace(t, ctx)
	for _, c := range refusedTargets {
		t.Run(c.target, func(t *testing.T) {
			wantRefused(t, namespace, `{target: {sidecar: Enabled, `+c.target+`}}`, c.says)
		})
	}
	// Of what is neither a number nor a string the API server has much to say; it begins with what is wrong.
	for _, port := range []string{"443.5", "true", "{}"} {
		err := asClient.Create(ctx, probe(t, namespace, "strict", `{target: {sidecar: Enabled, service: {name: shop, port: `+port+`}}}`))
		if !apierrors.IsInvalid(err) || !strings.Contains(complaint(err), "spec.target.service.port in body must be of type integer,string") {
			t.Errorf("port %s: %v", port, err)
		}
	}
}

func wantRefused(t *testing.T, namespace, spec, says string) {
	t.Helper()
	err := asClient.Create(t.Context(), probe(t, namespace, "strict", spec))
	if !apierrors.IsInvalid(err) {
		t.Fatalf("not refused as invalid: %v", err)
	}
	if said := complaint(err); said != says {
		t.Errorf("a person reads\n  %s\nand should read\n  %s", said, says)
	}
}

// refusedModes are refused as refusedSpecs are. Each is put behind the target.
var refusedModes = []struct{ spec, says string }{
	{`mtls: {clientMode: MUTUAL}`, `spec.mtls.clientMode: Unsupported value: "MUTUAL": supported values: "UNSET", "DISABLE", "ISTIO_MUTUAL", "SIMPLE"`},
	{`mtls: {clientMode: simple}`, `spec.mtls.clientMode: Unsupported value: "simple": supported values: "UNSET", "DISABLE", "ISTIO_MUTUAL", "SIMPLE"`},
	{`mtls: {clientMode: ""}`, `spec.mtls.clientMode: Unsupported value: "": supported values: "UNSET", "DISABLE", "ISTIO_MUTUAL", "SIMPLE"`},
	{`mtls: {clientMode: STRICT}`, `spec.mtls.clientMode: Unsupported value: "STRICT": supported values: "UNSET", "DISABLE", "ISTIO_MUTUAL", "SIMPLE"`},

	{`expect: [{}]`, `spec.expect[0].path: Required value, spec.expect[0].reason: Required value, spec.expect[0].see: Required value`},
	{`expect: [{path: proxy, see: "200", reason: because}]`, `spec.expect[0].path: Unsupported value: "proxy": supported values: "sleep", "istio-proxy", "outsider"`},
	{`expect: [{path: sleep, see: "200"}]`, `spec.expect[0].reason: Required value`},
	{`expect: [{path: sleep, see: "200", reason: ""}]`, `spec.expect[0].reason: Invalid value: "": ` + noReason},
	{`expect: [{path: sleep, see: "200", reason: "  "}]`, `spec.expect[0].reason: Invalid value: "  ": ` + noReason},
	{`expect: [{path: sleep, see: "200", reason: "\t\n"}]`, `spec.expect[0].reason: Invalid value: "\t\n": ` + noReason},
	{`expect: [{path: sleep, see: "200", reason: ` + strings.Repeat("a", 257) + `}]`, `spec.expect[0].reason: Too long: may not be more than 256 bytes`},
	{`expect: [{path: sleep, reason: because}]`, `spec.expect[0].see: Required value`},
	{`expect: [{path: sleep, see: "", reason: because}]`, `spec.expect[0].see: Invalid value: "": ` + badSee},
	{`expect: [{path: sleep, see: "99", reason: because}]`, `spec.expect[0].see: Invalid value: "99": ` + badSee},
	{`expect: [{path: sleep, see: "099", reason: because}]`, `spec.expect[0].see: Invalid value: "099": ` + badSee},
	{`expect: [{path: sleep, see: "600", reason: because}]`, `spec.expect[0].see: Invalid value: "600": ` + badSee},
	{`expect: [{path: sleep, see: "2000", reason: because}]`, `spec.expect[0].see: Invalid value: "2000": ` + badSee},
	{`expect: [{path: sleep, see: 2xx, reason: because}]`, `spec.expect[0].see: Invalid value: "2xx": ` + badSee},
	{`expect: [{path: sleep, see: Refused, reason: because}]`, `spec.expect[0].see: Invalid value: "Refused": ` + badSee},
	{`expect: [{path: sleep, see: "no answer", reason: because}]`, `spec.expect[0].see: Invalid value: "no answer": ` + badSee},
	{`expect: [{path: sleep, see: 99, reason: because}]`, `spec.expect[0].see: Invalid value: 99: ` + badSee},
	{`expect: [{path: sleep, see: 600, reason: because}]`, `spec.expect[0].see: Invalid value: 600: ` + badSee},
	{`expect: [{path: sleep, see: "200", reason: a}, {path: sleep, see: "401", reason: b}]`, `spec.expect[1]: Duplicate value: {"path":"sleep"}`},
	{`expect: {path: sleep}`, `spec.expect: Invalid value: "object": spec.expect in body must be of type array: "object"`},
}

func TestRefusedModesAndExpectations(t *testing.T) {
	namespace := newNamespace(t, needAPIServer(t))
	for _, c := range refusedModes {
		t.Run(c.spec, func(t *testing.T) { wantRefused(t, namespace, `{target: {sidecar: Enabled}, `+c.spec+`}`, c.says) })
	}
}

// accepted holds, beside what a person writes, what is read again over the defaults.
var accepted = []struct{ spec, reads string }{
	{`{target: {sidecar: Enabled, service: {name: shop}}}`, `{target: {service: {name: shop, port: 443}}}`},
	{`{target: {sidecar: Enabled, service: {name: shop, port: null, namespace: null}}}`, `{target: {service: {name: shop, port: 443}}}`},
	{`{target: {sidecar: Enabled, service: {name: shop, port: 8443}}}`, `{target: {service: {name: shop, port: 8443}}}`},
	{`{target: {sidecar: Enabled, service: {name: shop, port: 1}}}`, `{target: {service: {name: shop, port: 1}}}`},
	{`{target: {sidecar: Enabled, service: {name: shop, port: 65535}}}`, `{target: {service: {name: shop, port: 65535}}}`},
	{`{target: {sidecar: Enabled, service: {name: shop, port: https}}}`, `{target: {service: {name: shop, port: https}}}`},
	{`{target: {sidecar: Enabled, service: {name: shop, port: 443-tls}}}`, `{target: {service: {name: shop, port: 443-tls}}}`},
	{`{target: {sidecar: Enabled, service: {name: shop, namespace: ""}}}`, `{target: {service: {name: shop, namespace: "", port: 443}}}`},
	{`{target: {sidecar: Enabled, service: {name: shop, namespace: 1st}}}`, `{target: {service: {name: shop, namespace: 1st, port: 443}}}`},
	{`{target: {sidecar: Disabled, service: {name: shop}}, mtls: {mode: DISABLE}}`, `{target: {sidecar: Disabled, service: {name: shop, port: 443}}, mtls: {mode: DISABLE}}`},
	{`{target: {sidecar: Enabled, path: "/healthz?verbose=1&a=%20#~"}}`, `{target: {path: "/healthz?verbose=1&a=%20#~"}}`},
	{`{target: {sidecar: Enabled, path: null, serverName: null, ca: null, certificate: null, service: null}}`, `{}`},
	{`{target: {sidecar: Enabled, serverName: shop.Example.com}}`, `{target: {serverName: shop.Example.com}}`},
	{`{target: {sidecar: Enabled, serverName: ""}}`, `{target: {serverName: ""}}`},
	{`{target: {sidecar: Enabled, service: {name: shop}, ca: {configMap: {name: root}}}}`, `{target: {service: {name: shop, port: 443}, ca: {configMap: {name: root, key: ca.crt}}}}`},
	{`{target: {sidecar: Enabled, service: {name: shop}, ca: {secret: {name: root.v1, key: tls.crt}}}}`, `{target: {service: {name: shop, port: 443}, ca: {secret: {name: root.v1, key: tls.crt}}}}`},
	{`{target: {sidecar: Enabled, service: {name: shop}, ca: {configMap: {name: root}, secret: null}}}`, `{target: {service: {name: shop, port: 443}, ca: {configMap: {name: root, key: ca.crt}}}}`},
	{`{target: {sidecar: Enabled, certificate: {secretName: shop-tls}}}`, `{target: {certificate: {secretName: shop-tls}}}`},

	{`{target: {sidecar: Enabled}, mtls: {clientMode: null}}`, `{}`},
	{`{target: {sidecar: Enabled}, mtls: {clientMode: DISABLE}}`, `{mtls: {clientMode: DISABLE}}`},
	{`{target: {sidecar: Enabled}, mtls: {clientMode: ISTIO_MUTUAL}}`, `{mtls: {clientMode: ISTIO_MUTUAL}}`},
	{`{target: {sidecar: Disabled}, mtls: {clientMode: SIMPLE}}`, `{target: {sidecar: Disabled}, mtls: {clientMode: SIMPLE}}`},

	{`{target: {sidecar: Enabled}, expect: [{path: sleep, see: "401", reason: it wants a token}]}`, `{expect: [{path: sleep, see: "401", reason: it wants a token}]}`},
	{`{target: {sidecar: Enabled}, expect: [{path: sleep, see: "100", reason: a}, {path: istio-proxy, see: "599", reason: b}, {path: outsider, see: refused, reason: c}]}`,
		`{expect: [{path: sleep, see: "100", reason: a}, {path: istio-proxy, see: "599", reason: b}, {path: outsider, see: refused, reason: c}]}`},
	{`{target: {sidecar: Enabled}, expect: [{path: sleep, see: 401, reason: it wants a token}]}`, `{expect: [{path: sleep, see: 401, reason: it wants a token}]}`},
	{`{target: {sidecar: Enabled}, expect: []}`, `{expect: []}`},
}

func TestAcceptedTargetsModesAndExpectations(t *testing.T) {
	namespace := newNamespace(t, needAPIServer(t))
	for _, c := range accepted {
		t.Run(c.spec, func(t *testing.T) { wantAccepted(t, namespace, c.spec, c.reads) })
	}
}

// A probe's server stays what it was: its own, or one that is already there.
func TestAProbeKeepsItsKindOfServer(t *testing.T) {
	ctx := needAPIServer(t)
	namespace := newNamespace(t, ctx)
	for name, spec := range map[string]string{"own": `{target: {sidecar: Enabled}}`, "theirs": `{target: {sidecar: Enabled, service: {name: shop}}}`} {
		if err := asClient.Create(ctx, probe(t, namespace, name, spec)); err != nil {
			t.Fatal(err)
		}
	}
	patch := func(name, spec string) error {
		return asClient.Patch(ctx, read(t, namespace, name), client.RawPatch("application/merge-patch+json", []byte(`{"spec":`+spec+`}`)))
	}
	for _, c := range []struct{ name, spec string }{
		{"own", `{"target":{"service":{"name":"shop"}}}`},
		{"theirs", `{"target":{"service":null}}`},
	} {
		err := patch(c.name, c.spec)
		if !apierrors.IsInvalid(err) || complaint(err) != `spec.target.service: Invalid value: `+otherProbe {
			t.Errorf("%s to %s: a person reads\n  %v\nand should read\n  %s", c.name, c.spec, err, otherProbe)
		}
	}
	for _, c := range []struct{ name, spec string }{
		{"own", `{"target":{"sidecar":"Disabled"}}`},
		{"own", `{"target":{"certificate":{"secretName":"shop-tls"}}}`},
		{"own", `{"target":{"certificate":null}}`},
		{"theirs", `{"target":{"service":{"name":"other","port":"https"}}}`},
		{"theirs", `{"target":{"service":{"namespace":"elsewhere"}},"mtls":{"clientMode":"SIMPLE"}}`},
		{"theirs", `{"target":{"ca":{"configMap":{"name":"root"}}}}`},
		{"theirs", `{"target":{"ca":{"configMap":null,"secret":{"name":"root"}}}}`},
	} {
		if err := patch(c.name, c.spec); err != nil {
			t.Errorf("%s to %s: %v", c.name, c.spec, err)
		}
	}
	err := patch("theirs", `{"target":{"certificate":{"secretName":"shop-tls"}}}`)
	if !apierrors.IsInvalid(err) || complaint(err) != `spec.target.certificate: Invalid value: `+oneServer {
		t.Errorf("a certificate for a Service that is there: %v", err)
	}
}

// A probe that was stored before these fields were there has none of their defaults. It can still be read and written.
func TestProbesOfBeforeAreReadWithDefaults(t *testing.T) {
	ctx := needAPIServer(t)
	namespace := newNamespace(t, ctx)
	if err := asClient.Create(ctx, probe(t, namespace, "old", `{target: {sidecar: Enabled}, mtls: {mode: STRICT}, interval: 30s}`)); err != nil {
		t.Fatal(err)
	}
	var old api.HTTPSMeshProbe
	if err := asClient.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "old"}, &old); err != nil {
		t.Fatal(err)
	}
	target, mtls := old.Spec.Target, old.Spec.MTLS
	if target.Path != "/" || target.Service != nil || target.CA != nil || target.Certificate != nil || mtls.ClientMode != api.ClientTLSUnset || old.Spec.Expect != nil {
		t.Errorf("%+v", old.Spec)
	}
	// A Go program of before writes what it knows.
	old.Spec.Target.Path, old.Spec.MTLS.ClientMode = "", ""
	old.Spec.Suspend = true
	if err := asClient.Update(ctx, &old); err != nil {
		t.Fatal(err)
	}
	wantRead(t, read(t, namespace, "old"), `{mtls: {mode: STRICT}, interval: 30s, suspend: true}`)
}

// A Go program that leaves the port out gets the default, and both kinds of port come back as they were written.
func TestPortsOfGoPrograms(t *testing.T) {
	ctx := needAPIServer(t)
	namespace := newNamespace(t, ctx)
	for name, c := range map[string]struct{ written, want intstr.IntOrString }{
		"left-out":  {intstr.IntOrString{}, intstr.FromInt32(443)},
		"by-number": {intstr.FromInt32(8443), intstr.FromInt32(8443)},
		"by-name":   {intstr.FromString("https"), intstr.FromString("https")},
	} {
		written := &api.HTTPSMeshProbe{}
		written.Namespace, written.Name = namespace, name
		written.Spec.Target = api.Target{Sidecar: api.SidecarEnabled, Service: &api.TargetService{Name: "shop", Port: c.written}}
		if err := asClient.Create(ctx, written); err != nil {
			t.Fatal(err)
		}
		var got api.HTTPSMeshProbe
		if err := asClient.Get(ctx, client.ObjectKeyFromObject(written), &got); err != nil {
			t.Fatal(err)
		}
		if got.Spec.Target.Service.Port != c.want {
			t.Errorf("%s: %v, want %v", name, got.Spec.Target.Service.Port, c.want)
		}
	}
}
