package oracle

import "github.com/meshprobe/httpsmeshprobe/internal/observation"

// virtualServiceYAML leads what is addressed to web by name, in a namespace of its own.
func virtualServiceYAML(namespace, name, spec string) string {
	return "\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {namespace: " + namespace + ", name: " + name + "}\nspec: " + spec
}

func destinationRuleYAML(name, spec string) string {
	return "\n---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {namespace: shop, name: " + name + "}\nspec: " + spec
}

func serviceEntryYAML(name, spec string) string {
	return "\n---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {namespace: shop, name: " + name + "}\nspec: " + spec
}

func peerAuthenticationYAML(namespace, mode string) string {
	return "\n---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {namespace: " + namespace + ", name: default}\nspec: {mtls: {mode: " + mode + "}}"
}

func sidecarYAML(spec string) string {
	return "\n---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {namespace: shop, name: default}\nspec: " + spec
}

func workloadEntryYAML(labels string) string {
	return "\n---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {namespace: shop, name: machine}\n" +
		"spec: {address: 10.1.9.1, labels: {app: web, " + labels + "}}"
}

// sni leads web by its name to destinations.
func sni(hosts, destinations string) string {
	return "{hosts: [" + hosts + "], tls: [{match: [{port: 443, sniHosts: [" + hosts + "]}], route: [" + destinations + "]}]}"
}

const (
	hostOther  = "{destination: {host: other.shop.svc.cluster.local, port: {number: 443}}}"
	subsets    = "{host: web.shop.svc.cluster.local, subsets: [{name: a, labels: {version: a}}, {name: b, labels: {version: b}, trafficPolicy: {tls: {mode: DISABLE}}}]}"
	clientOnly = "{hosts: [web.shop.svc.cluster.local], tls: [{match: [{port: 443, sniHosts: [web.shop.svc.cluster.local], sourceLabels: {app: "
)

// unknownFilter is a network filter that nobody knows, and envoyFilter puts it before web.
const (
	unknownFilter = "custom"
	envoyFilter   = `
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {namespace: shop, name: custom}
spec:
  configPatches:
  - applyTo: NETWORK_FILTER
    match: {context: SIDECAR_OUTBOUND, listener: {name: 10.2.0.1_443}}
    patch:
      operation: INSERT_FIRST
      value: {name: custom, typed_config: {"@type": type.googleapis.com/udpa.type.v1.TypedStruct, type_url: type.googleapis.com/custom}}`
)

// delivery is a configuration with questions about it.
type delivery struct {
	configuration string
	routes        []routed
}

var deliveries = map[string]delivery{
	"nothing": {"", []routed{
		{address: webAt, name: web, legs: only(toWeb)},
		{address: webAt, name: "", legs: only(toWeb)},
		{address: "10.2.0.2:443", legs: only(byEndpoint(outbound("", "mixed.shop.svc.cluster.local"), 1, mutual("10.1.0.3:8443"), plaintext("10.1.0.4:8443")))},
		{address: "10.2.0.4:443", legs: only(byEndpoint(outbound("", "web.far.svc.cluster.local"), 1, mutual("10.1.0.6:8443")))},
		{address: nobody, name: web, passes: true, legs: passthrough},
		{address: webA, name: web, passes: true, legs: passthrough},
		{address: "203.0.113.9:15001", passes: true, legs: blackHole},
	}},
	"kinds of Services": {"", []routed{
		{address: "10.1.0.7:8443", name: "ready.shop", legs: only(all(observation.TLSMutual, "outbound|8443||ready.shop.svc.cluster.local", 1))},
		{address: "10.1.0.10:8443", name: "peers.shop", legs: only(all(observation.TLSNone, "outbound|8443||peers.shop.svc.cluster.local", 1))},
		{address: "10.2.0.5:443", legs: only(byEndpoint(outbound("", "sniffed.shop.svc.cluster.local"), 1, mutual("10.1.0.11:8443")))},
		{address: "10.2.0.6:443", legs: only(byEndpoint(outbound("", "starting.shop.svc.cluster.local"), 1, mutual("10.1.0.12:8443")))},
	}},
	// Envoy never sends to a host that istiod calls unhealthy, unless it panics or finds out by itself who is healthy.
	"pod that is not ready, under outlier detection": {destinationRuleYAML("watch", "{host: starting.shop.svc.cluster.local, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}}}"), []routed{
		{address: "10.2.0.6:443", shapes: []string{"DestinationRule shop/watch"}, legs: only(byEndpoint(outbound("", "starting.shop.svc.cluster.local"), 1, mutual("10.1.0.12:8443"), mutual("10.1.0.13:8443")))},
	}},
	"VirtualService to another Service": {virtualServiceYAML("shop", "lead", sni(web, hostOther)), []routed{
		{address: webAt, name: web, object: "VirtualService shop/lead", legs: only(toOther)},
		// Envoy reads the name in small letters (ConnectionSocketImpl::setRequestedServerName), Istio's simulation does not.
		{address: webAt, name: "WEB.shop.svc.cluster.local", object: "VirtualService shop/lead", legs: only(toOther)},
		{address: webAt, name: "web.shop", legs: passthrough},
		{address: webAt, name: "", legs: passthrough},
		{address: "10.2.0.3:443", name: web, legs: only(toOther)},
	}},
	"VirtualService of another namespace": {virtualServiceYAML("far", "steal", sni(web, hostOther)), []routed{
		{address: webAt, name: web, object: "VirtualService far/steal", legs: only(toOther)},
	}},
	"VirtualService that another namespace keeps to itself": {virtualServiceYAML("far", "steal", `{exportTo: ["."], `+sni(web, hostOther)[1:]), []routed{
		{address: webAt, name: web, legs: only(toWeb)},
	}},
	"VirtualService of weights and subsets": {
		virtualServiceYAML("shop", "share", sni(web, "{destination: {host: "+web+", subset: a}, weight: 70}, {destination: {host: "+web+", subset: b}, weight: 20}, "+hostOther[:len(hostOther)-1]+", weight: 10}")) +
			destinationRuleYAML("shape", subsets),
		[]routed{{address: webAt, name: web, object: "VirtualService shop/share", shapes: []string{"DestinationRule shop/shape", "DestinationRule shop/shape"}, legs: []observation.Leg{
			byEndpoint(outbound("a", web), 70, mutual(webA)), all(observation.TLSNone, outbound("b", web), 20, webB), weighed(toOther, 10),
		}}},
	},
	"VirtualService for a client of other labels": {virtualServiceYAML("shop", "lead", clientOnly+"another}}], route: ["+hostOther+"]}]}"), []routed{
		{address: webAt, name: web, legs: only(toWeb)},
	}},
	"VirtualService for the client's labels": {virtualServiceYAML("shop", "lead", clientOnly+"client}}], route: ["+hostOther+"]}]}"), []routed{
		{address: webAt, name: web, object: "VirtualService shop/lead", legs: only(toOther)},
	}},
	"VirtualService for gateways only": {virtualServiceYAML("shop", "lead", `{gateways: [edge], `+sni(web, hostOther)[1:]), []routed{
		{address: webAt, name: web, legs: only(toWeb)},
	}},
	"VirtualService of whatever is sent": {virtualServiceYAML("shop", "raw", "{hosts: [starting.shop.svc.cluster.local], tcp: [{route: ["+hostOther+"]}]}"), []routed{
		{address: "10.2.0.6:443", name: "starting.shop", object: "VirtualService shop/raw", legs: only(toOther)},
		{address: "10.2.0.6:443", object: "VirtualService shop/raw", legs: only(toOther)},
	}},
	// Istio looks at tcp routes only where a port is neither HTTP nor TLS.
	"VirtualService of whatever is sent, to a port of TLS": {virtualServiceYAML("shop", "raw", "{hosts: ["+web+"], tcp: [{route: ["+hostOther+"]}]}"), []routed{
		{address: webAt, name: web, legs: only(toWeb)},
	}},
	"VirtualService of a wildcard": {virtualServiceYAML("shop", "wide", sni(`"*.shop.svc.cluster.local"`, hostOther)), []routed{
		{address: webAt, name: web, object: "VirtualService shop/wide", legs: only(toOther)},
		{address: webAt, name: "shop.svc.cluster.local", legs: passthrough},
	}},
	"VirtualService of addresses": {virtualServiceYAML("shop", "net", "{hosts: ["+web+"], tls: [{match: [{sniHosts: ["+web+"], destinationSubnets: [10.2.0.0/24]}], route: ["+hostOther+"]}]}"), []routed{
		{address: webAt, name: web, object: "VirtualService shop/net", legs: only(toOther)},
		{address: webAt, name: "web.shop", legs: passthrough},
	}},
	"VirtualService of other addresses": {virtualServiceYAML("shop", "net", "{hosts: ["+web+"], tls: [{match: [{sniHosts: ["+web+"], destinationSubnets: [10.9.0.0/24]}], route: ["+hostOther+"]}]}"), []routed{
		{address: webAt, name: web, legs: passthrough},
	}},
	"VirtualService to a host that is not there": {virtualServiceYAML("shop", "lost", sni(web, "{destination: {host: gone.shop.svc.cluster.local, port: {number: 443}}}")), []routed{
		{address: webAt, name: web, says: saysMissing},
	}},
	"DestinationRule ISTIO_MUTUAL": {destinationRuleYAML("shape", "{host: "+web+", trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}"), []routed{
		{address: webAt, name: web, shapes: []string{"DestinationRule shop/shape"}, legs: only(all(observation.TLSMutual, outbound("", web), 1, webA, webB))},
	}},
	"DestinationRule DISABLE": {destinationRuleYAML("shape", "{host: "+web+", trafficPolicy: {tls: {mode: DISABLE}}}"), []routed{
		{address: webAt, name: web, shapes: []string{"DestinationRule shop/shape"}, legs: only(all(observation.TLSNone, outbound("", web), 1, webA, webB))},
	}},
	"DestinationRule SIMPLE": {destinationRuleYAML("shape", "{host: "+web+", trafficPolicy: {tls: {mode: SIMPLE}}}"), []routed{
		{address: webAt, name: web, shapes: []string{"DestinationRule shop/shape"}, legs: only(all(observation.TLSOther, outbound("", web), 1, webA, webB))},
	}},
	"DestinationRule MUTUAL": {destinationRuleYAML("shape", "{host: "+web+", trafficPolicy: {tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /a}}}"), []routed{
		{address: webAt, name: web, shapes: []string{"DestinationRule shop/shape"}, legs: only(all(observation.TLSOther, outbound("", web), 1, webA, webB))},
	}},
	"DestinationRule of a port": {destinationRuleYAML("shape", "{host: "+web+", trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: DISABLE}}]}}"), []routed{
		{address: webAt, name: web, shapes: []string{"DestinationRule shop/shape"}, legs: only(all(observation.TLSNone, outbound("", web), 1, webA, webB))},
	}},
	"PeerAuthentication STRICT": {peerAuthenticationYAML("shop", "STRICT"), []routed{
		{address: webAt, name: web, legs: only(toWeb)},
		{address: "10.1.0.10:8443", legs: only(all(observation.TLSNone, "outbound|8443||peers.shop.svc.cluster.local", 1))},
	}},
	"PeerAuthentication DISABLE": {peerAuthenticationYAML("shop", "DISABLE"), []routed{
		{address: webAt, name: web, legs: only(all(observation.TLSNone, outbound("", web), 1, webA, webB))},
		{address: "10.1.0.7:8443", legs: only(all(observation.TLSNone, "outbound|8443||ready.shop.svc.cluster.local", 1))},
		{address: "10.2.0.4:443", legs: only(byEndpoint(outbound("", "web.far.svc.cluster.local"), 1, mutual("10.1.0.6:8443")))},
	}},
	"PeerAuthentication of the mesh": {peerAuthenticationYAML(root, "DISABLE"), []routed{
		{address: webAt, name: web, legs: only(all(observation.TLSNone, outbound("", web), 1, webA, webB))},
	}},
	"DestinationRule against PeerAuthentication": {peerAuthenticationYAML("shop", "STRICT") + destinationRuleYAML("shape", "{host: "+web+", trafficPolicy: {tls: {mode: DISABLE}}}"), []routed{
		{address: webAt, name: web, shapes: []string{"DestinationRule shop/shape"}, legs: only(all(observation.TLSNone, outbound("", web), 1, webA, webB))},
	}},
	"ServiceEntry for the Service's host": {serviceEntryYAML("more", "{hosts: ["+web+"], location: MESH_INTERNAL, resolution: STATIC, ports: [{name: https, number: 443, protocol: HTTPS, targetPort: 8443}], endpoints: [{address: 10.1.9.2}]}"), []routed{
		{address: webAt, name: web, legs: only(byEndpoint(outbound("", web), 1, mutual(webA), mutual(webB), plaintext("10.1.9.2:8443")))},
	}},
	"ServiceEntry of its own": {serviceEntryYAML("own", "{hosts: [a.example.com], addresses: [10.3.0.1], resolution: STATIC, ports: [{name: tls, number: 443, protocol: TLS}], endpoints: [{address: 192.0.2.1}]}"), []routed{
		{address: "10.3.0.1:443", name: "a.example.com", legs: only(all(observation.TLSNone, outbound("", "a.example.com"), 1, "192.0.2.1:443"))},
	}},
	"ServiceEntry of a name to look up": {serviceEntryYAML("looked", "{hosts: [a.example.com], addresses: [10.3.0.1], resolution: DNS, ports: [{name: tcp, number: 443, protocol: TCP}]}"), []routed{
		{address: "10.3.0.1:443", name: "a.example.com", legs: only(all(observation.TLSNone, outbound("", "a.example.com"), 1, "a.example.com:443"))},
	}},
	"ServiceEntry of any address": {serviceEntryYAML("any", `{hosts: ["*.example.com"], resolution: NONE, ports: [{name: tls, number: 443, protocol: TLS}]}`), []routed{
		{address: nobody, name: "a.example.com", legs: only(all(observation.TLSNone, outbound("", "*.example.com"), 1))},
		{address: nobody, name: "b.a.example.com", legs: only(all(observation.TLSNone, outbound("", "*.example.com"), 1))},
		{address: nobody, name: "example.com", legs: passthrough},
		{address: nobody, name: web, legs: passthrough},
		{address: webAt, name: "a.example.com", legs: only(toWeb)},
	}},
	"WorkloadEntry without sidecar": {workloadEntryYAML("version: a"), []routed{
		{address: webAt, name: web, legs: only(byEndpoint(outbound("", web), 1, mutual(webA), mutual(webB), plaintext("10.1.9.1:8443")))},
	}},
	"WorkloadEntry with sidecar": {workloadEntryYAML(sidecarLabel), []routed{
		{address: webAt, name: web, legs: only(byEndpoint(outbound("", web), 1, mutual(webA), mutual(webB), mutual("10.1.9.1:8443")))},
	}},
	"Sidecar without the namespace": {sidecarYAML(`{egress: [{hosts: ["./*"]}]}`), []routed{
		{address: "10.2.0.4:443", name: "web.far.svc.cluster.local", passes: true, legs: passthrough},
		{address: webAt, name: web, legs: only(toWeb)},
	}},
	"Sidecar without the namespace, registry only": {sidecarYAML(`{outboundTrafficPolicy: {mode: REGISTRY_ONLY}, egress: [{hosts: ["./*"]}]}`), []routed{
		{address: "10.2.0.4:443", name: "web.far.svc.cluster.local", passes: true, legs: blackHole},
		{address: webAt, name: web, legs: only(toWeb)},
	}},
	"VirtualService that leads to its own namespace": {virtualServiceYAML("far", "home", sni(web, "{destination: {host: web.far.svc.cluster.local}}")), []routed{
		{address: webAt, name: web, object: "VirtualService far/home", legs: only(byEndpoint(outbound("", "web.far.svc.cluster.local"), 1, mutual("10.1.0.6:8443")))},
	}},
	"filter that is not known": {envoyFilter, []routed{
		{address: webAt, name: web, says: saysUnknown},
	}},
	"Sidecar of another namespace only": {sidecarYAML(`{egress: [{hosts: ["far/*"]}]}`) + virtualServiceYAML("far", "steal", sni(web, hostOther)), []routed{
		{address: webAt, name: web, passes: true, legs: passthrough},
	}},
}

func weighed(leg observation.Leg, weight uint32) observation.Leg {
	leg.Weight = weight
	return leg
}
