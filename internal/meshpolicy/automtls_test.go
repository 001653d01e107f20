package meshpolicy_test

import (
	"testing"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

func labelled(mode string) *meshpolicy.Pod {
	return &meshpolicy.Pod{Namespace: "shop", Name: "nginx-3", Labels: map[string]string{"app": "nginx", "security.istio.io/tlsMode": mode}, Sidecar: true}
}

func exported(to ...string) *meshpolicy.Service {
	exported := service
	exported.ExportTo = to
	return &exported
}

func headlessOver(pods ...meshpolicy.Pod) *meshpolicy.Service {
	over := headless
	over.Endpoints = pods
	return &over
}

var byEndpoint = map[string]way{
	"ready":                         {sends: meshpolicy.MutualTLS, why: "auto mTLS finds pod shop/nginx-1 ready for it"},
	"no label":                      {pod: &unreadyPod, sends: meshpolicy.Plaintext, why: "auto mTLS finds no label security.istio.io/tlsMode=istio on pod shop/nginx-2"},
	"label disabled":                {pod: labelled("disabled"), sends: meshpolicy.Plaintext},
	"a label of one's own":          {pod: labelled("custom"), sends: meshpolicy.Plaintext},
	"the label without the sidecar": {pod: &meshpolicy.Pod{Namespace: "shop", Labels: ready}, sends: meshpolicy.MutualTLS},
	"an address without pod":        {pod: &meshpolicy.Pod{}, sends: meshpolicy.Plaintext, why: "on an endpoint without pod"},
	"host network":                  {pod: &meshpolicy.Pod{Namespace: "shop", HostNetwork: true}, sends: meshpolicy.Plaintext},
	"ambient is not judged":         {pod: &meshpolicy.Pod{Namespace: "shop", Name: "nginx-4", Annotations: map[string]string{redirection: "enabled"}}, sends: "", why: "pod shop/nginx-4 is in the ambient mesh"},
	"a port past the sidecar":       {pod: &meshpolicy.Pod{Namespace: "shop", Labels: ready, Sidecar: true, Annotations: map[string]string{excludeInbound: "8443"}}, sends: meshpolicy.MutualTLS},
	"auto mTLS off":                 {mesh: &meshpolicy.Mesh{}, sends: meshpolicy.Plaintext, why: "auto mTLS is off"},
	"a client without sidecar":      {client: &meshpolicy.Client{Namespace: "other"}, rules: destinationRules{rule("other", "r", host, &istioMutual)}, sends: meshpolicy.Plaintext, why: "the client has no sidecar"},
}

var byPolicy = map[string]way{
	"namespace DISABLE": {policies: policies{namespaceOff}, sends: meshpolicy.Plaintext, policy: "default",
		why: "auto mTLS looks only at the namespace's and the mesh's mode, and PeerAuthentication shop/default (namespace level) sets DISABLE"},
	"namespace DISABLE, workload STRICT": {policies: policies{namespaceOff, policy("shop", "own", strict, nginx, 0)}, sends: meshpolicy.Plaintext, policy: "default"},
	"namespace DISABLE, port STRICT": {policies: policies{namespaceOff, withPorts(policy("shop", "own", unset, nginx, 0), map[uint32]api.MTLSMode{port: strict})},
		sends: meshpolicy.Plaintext, policy: "default"},
	"mesh DISABLE": {policies: policies{policy(root, "mesh", disable, nil, 0)}, sends: meshpolicy.Plaintext, policy: "mesh",
		why: "PeerAuthentication istio-system/mesh (mesh level) sets DISABLE"},
	"mesh DISABLE, namespace STRICT":       {policies: policies{policy(root, "mesh", disable, nil, 0), policy("shop", "ns", strict, nil, 0)}, sends: meshpolicy.MutualTLS},
	"mesh DISABLE, namespace UNSET":        {policies: policies{policy(root, "mesh", disable, nil, 0), policy("shop", "ns", unset, nil, 0)}, sends: meshpolicy.Plaintext, policy: "mesh"},
	"the client's namespace DISABLE":       {policies: policies{policy("other", "ns", disable, nil, 0)}, sends: meshpolicy.MutualTLS},
	"namespace STRICT, workload DISABLE":   {policies: policies{policy("shop", "ns", strict, nil, 0), policy("shop", "own", disable, nginx, 0)}, sends: meshpolicy.Plaintext, policy: "own", why: "auto mTLS follows PeerAuthentication shop/own (workload level), which sets DISABLE"},
	"workload DISABLE for others":          {policies: policies{policy("shop", "own", disable, map[string]string{"app": "redis"}, 0)}, sends: meshpolicy.MutualTLS},
	"workload STRICT, target port DISABLE": {policies: policies{withPorts(policy("shop", "own", strict, nginx, 0), map[uint32]api.MTLSMode{port: disable})}, sends: meshpolicy.Plaintext, policy: "own", why: "(port level)"},
	"workload STRICT, port DISABLE":        {policies: policies{withPorts(policy("shop", "own", strict, nginx, 0), map[uint32]api.MTLSMode{443: disable})}, sends: meshpolicy.MutualTLS},
	"workload PERMISSIVE":                  {policies: policies{policy("shop", "own", permissive, nginx, 0)}, sends: meshpolicy.MutualTLS},
	"another root": {policies: policies{policy(root, "former", disable, nil, 0), policy("mesh-root", "present", strict, nil, 0)},
		mesh: &meshpolicy.Mesh{AutoMTLS: true, RootNamespace: "mesh-root"}, sends: meshpolicy.MutualTLS},
}

var byAddress = map[string]way{
	"headless, all ready":             {service: &headless, sends: meshpolicy.MutualTLS, why: "auto mTLS looks at no single endpoint"},
	"headless, another not ready":     {service: &mixed, sends: meshpolicy.Plaintext, why: "auto mTLS treats all endpoints alike that are asked for by address, and pod shop/nginx-2 is not labelled"},
	"headless, this one not ready":    {service: &headless, pod: &unreadyPod, sends: meshpolicy.Plaintext},
	"headless, another is disabled":   {service: headlessOver(readyPod, *labelled("disabled")), sends: meshpolicy.Plaintext},
	"headless, a label of one's own":  {service: headlessOver(*labelled("custom")), pod: labelled("custom"), sends: meshpolicy.MutualTLS},
	"headless, an address alone":      {service: headlessOver(readyPod, meshpolicy.Pod{}), sends: meshpolicy.Plaintext, why: "an endpoint without pod is not labelled"},
	"headless, namespace DISABLE":     {service: &headless, policies: policies{namespaceOff}, sends: meshpolicy.Plaintext, policy: "default"},
	"headless, workload DISABLE":      {service: &headless, policies: policies{policy("shop", "own", disable, nginx, 0)}, sends: meshpolicy.MutualTLS},
	"not headless, another not ready": {service: &mixedBehind, sends: meshpolicy.MutualTLS},

	"PASSTHROUGH, all ready":         {rules: destinationRules{rule("other", "r", host, nil, passthrough)}, sends: meshpolicy.MutualTLS, why: "auto mTLS looks at no single endpoint"},
	"PASSTHROUGH, another not ready": {rules: destinationRules{rule("other", "r", host, nil, passthrough)}, service: &mixedBehind, sends: meshpolicy.Plaintext},
	"PASSTHROUGH, workload DISABLE":  {rules: destinationRules{rule("other", "r", host, nil, passthrough)}, policies: policies{policy("shop", "own", disable, nginx, 0)}, sends: meshpolicy.MutualTLS},
	"PASSTHROUGH for the port alone sends mutual TLS even to pods that are not ready": {rules: destinationRules{rule("other", "r", host, nil, portPassthrough(443))}, service: &mixedBehind, pod: &unreadyPod,
		sends: meshpolicy.MutualTLS},
	"PASSTHROUGH for another port": {rules: destinationRules{rule("other", "r", host, nil, portPassthrough(80))}, service: &mixedBehind, pod: &unreadyPod, sends: meshpolicy.Plaintext},
	"PASSTHROUGH but not for the port": {rules: destinationRules{rule("other", "r", host, nil, passthrough, onPort(443, nil))}, policies: policies{policy("shop", "own", disable, nginx, 0)},
		sends: meshpolicy.Plaintext, policy: "own"},
	"PASSTHROUGH but not for the port, another not ready": {rules: destinationRules{rule("other", "r", host, nil, passthrough, onPort(443, nil))}, service: &mixedBehind, sends: meshpolicy.Plaintext,
		why: "auto mTLS treats all endpoints alike"},
}

var byExportOfTheService = map[string]way{
	"to everybody":      {service: exported("*"), sends: meshpolicy.MutualTLS},
	"to the client":     {service: exported("third", "other"), sends: meshpolicy.MutualTLS},
	"to somebody else":  {service: exported("third"), sends: meshpolicy.Plaintext, why: "Service shop/nginx is not exported to namespace other, so the client's sidecar does not know it"},
	"private":           {service: exported("."), sends: meshpolicy.Plaintext},
	"private, at home":  {service: exported("."), client: &fromTheShop, sends: meshpolicy.MutualTLS},
	"by name, at home":  {service: exported("shop"), client: &fromTheShop, sends: meshpolicy.MutualTLS},
	"elsewhere":         {service: exported("third"), client: &fromTheShop, sends: meshpolicy.Plaintext},
	"to nobody":         {service: exported("~"), client: &fromTheShop, sends: meshpolicy.Plaintext},
	"to nobody goes on": {service: exported("~", "other"), sends: meshpolicy.Plaintext},
	"to all goes first": {service: exported("~", "*"), sends: meshpolicy.MutualTLS},
	"by default":        {mesh: &meshpolicy.Mesh{AutoMTLS: true, ServiceExportTo: []string{"."}}, sends: meshpolicy.Plaintext},
	"default at home":   {mesh: &meshpolicy.Mesh{AutoMTLS: true, ServiceExportTo: []string{"."}}, client: &fromTheShop, sends: meshpolicy.MutualTLS},
	"default not asked": {mesh: &meshpolicy.Mesh{AutoMTLS: true, ServiceExportTo: []string{"."}}, service: exported("other"), sends: meshpolicy.MutualTLS},
	"a rule for it":     {service: exported("third"), rules: destinationRules{rule("other", "r", host, &istioMutual)}, sends: meshpolicy.Plaintext},
}

func TestForClientByAutoMTLS(t *testing.T) {
	for part, ways := range map[string]map[string]way{"endpoint": byEndpoint, "policy": byPolicy, "address": byAddress, "export of the service": byExportOfTheService} {
		for name, w := range ways {
			t.Run(part+"/"+name, func(t *testing.T) { w.check(t) })
		}
	}
}

func TestAuto(t *testing.T) {
	for name, c := range map[string]struct {
		way  way
		want bool
	}{
		"nothing else":                  {way{}, true},
		"plaintext":                     {way{pod: &unreadyPod}, true},
		"a policy that covers all":      {way{policies: policies{namespaceOff}}, true},
		"endpoints that are all alike":  {way{service: &mixed}, true},
		"off":                           {way{mesh: &meshpolicy.Mesh{}}, false},
		"a rule":                        {way{rules: destinationRules{rule("other", "r", host, &istioMutual)}}, false},
		"a rule that leaves it to auto": {way{rules: destinationRules{rule("other", "r", host, nil, withTrafficPolicy)}}, true},
		"a rule that half does":         {way{rules: destinationRules{rule("other", "r", host, &istioMutual, onPort(443, nil))}}, true},
		"no sidecar":                    {way{client: &meshpolicy.Client{Namespace: "other"}}, false},
	} {
		if got := c.way.ask(c.way.rules).Auto; got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
