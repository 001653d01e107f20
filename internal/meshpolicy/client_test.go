package meshpolicy_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/meshpolicy"
)

const host = "nginx.shop.svc.cluster.local"

var (
	disabled     = meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSDisable}
	simple       = meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSSimple}
	istioMutual  = meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSIstioMutual}
	mutual       = meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSMutual, ClientCertificate: "/certs/client.pem", PrivateKey: "/certs/key.pem"}
	sleep        = map[string]string{"app": "sleep"}
	ready        = map[string]string{"app": "nginx", "security.istio.io/tlsMode": "istio"}
	unready      = map[string]string{"app": "nginx"}
	mesh         = meshpolicy.Mesh{AutoMTLS: true}
	service      = meshpolicy.Service{Namespace: "shop", Name: "nginx", Port: 443, TargetPort: port}
	client       = meshpolicy.Client{Namespace: "other", Labels: sleep, Sidecar: true}
	fromTheMesh  = meshpolicy.Client{Namespace: root, Labels: sleep, Sidecar: true}
	fromTheShop  = meshpolicy.Client{Namespace: "shop", Labels: sleep, Sidecar: true}
	another      = meshpolicy.Client{Namespace: "other", Labels: map[string]string{"app": "curl"}, Sidecar: true}
	readyPod     = meshpolicy.Pod{Namespace: "shop", Name: "nginx-1", Labels: ready, Sidecar: true}
	unreadyPod   = meshpolicy.Pod{Namespace: "shop", Name: "nginx-2", Labels: unready}
	headless     = meshpolicy.Service{Namespace: "shop", Name: "nginx", Port: 443, TargetPort: port, Headless: true, Endpoints: []meshpolicy.Pod{readyPod}}
	mixed        = meshpolicy.Service{Namespace: "shop", Name: "nginx", Port: 443, TargetPort: port, Headless: true, Endpoints: []meshpolicy.Pod{readyPod, unreadyPod}}
	mixedBehind  = meshpolicy.Service{Namespace: "shop", Name: "nginx", Port: 443, TargetPort: port, Endpoints: []meshpolicy.Pod{readyPod, unreadyPod}}
	namespaceOff = policy("shop", "default", disable, nil, 0)
)

type option func(*meshpolicy.DestinationRule)

// rule is a DestinationRule of the last minute unless an option says otherwise.
func rule(namespace, name, host string, tls *meshpolicy.ClientTLS, options ...option) meshpolicy.DestinationRule {
	made := meshpolicy.DestinationRule{Namespace: namespace, Name: name, Host: host, Created: created, HasTrafficPolicy: tls != nil, TLS: tls}
	for _, option := range options {
		option(&made)
	}
	return made
}

func minutesOld(minutes int) option {
	return func(rule *meshpolicy.DestinationRule) {
		rule.Created = created.Add(-time.Duration(minutes) * time.Minute)
	}
}

func exportTo(namespaces ...string) option {
	return func(rule *meshpolicy.DestinationRule) { rule.ExportTo = namespaces }
}

func selecting(labels map[string]string) option {
	return func(rule *meshpolicy.DestinationRule) { rule.WorkloadSelector = labels }
}

func onPort(port uint32, tls *meshpolicy.ClientTLS) option {
	return func(rule *meshpolicy.DestinationRule) {
		rule.HasTrafficPolicy, rule.PortTLS = true, map[uint32]*meshpolicy.ClientTLS{port: tls}
	}
}

func passthrough(rule *meshpolicy.DestinationRule) {
	rule.HasTrafficPolicy, rule.Passthrough = true, true
}

func portPassthrough(port uint32) option {
	return func(rule *meshpolicy.DestinationRule) {
		onPort(port, nil)(rule)
		rule.PortPassthrough = map[uint32]bool{port: true}
	}
}

func withTrafficPolicy(rule *meshpolicy.DestinationRule) { rule.HasTrafficPolicy = true }

type destinationRules = []meshpolicy.DestinationRule

// way is one from a client to an endpoint. What is left out is the usual: a client in another namespace, and a pod that
// is ready for mutual TLS.
type way struct {
	rules    destinationRules
	policies policies
	mesh     *meshpolicy.Mesh
	client   *meshpolicy.Client
	service  *meshpolicy.Service
	pod      *meshpolicy.Pod

	sends meshpolicy.Sends
	// rule and policy are the names of those that decide, "" for none.
	rule, policy string
	// why is a part of the explanation.
	why string
}

func (w way) ask(rules destinationRules) meshpolicy.ClientPolicy {
	return meshpolicy.ForClient(*or(w.mesh, &mesh), rules, w.policies, *or(w.client, &client), *or(w.service, &service), *or(w.pod, &readyPod))
}

func or[T any](given, usual *T) *T {
	if given != nil {
		return given
	}
	return usual
}

var byHost = map[string]way{
	"full name":                 {rules: destinationRules{rule("other", "r", host, &simple)}, sends: meshpolicy.SimpleTLS, rule: "r", why: "DestinationRule other/r sets SIMPLE"},
	"short name, own namespace": {rules: destinationRules{rule("shop", "r", "nginx", &simple)}, sends: meshpolicy.SimpleTLS, rule: "r"},
	"short name elsewhere":      {rules: destinationRules{rule("other", "r", "nginx", &simple)}, sends: meshpolicy.MutualTLS},
	"name and namespace":        {rules: destinationRules{rule("other", "r", "nginx.shop", &simple)}, sends: meshpolicy.MutualTLS},
	"name, namespace and svc":   {rules: destinationRules{rule("other", "r", "nginx.shop.svc", &simple)}, sends: meshpolicy.MutualTLS},
	"no host":                   {rules: destinationRules{rule("shop", "r", "", &simple)}, sends: meshpolicy.MutualTLS},
	"another service":           {rules: destinationRules{rule("other", "r", "redis.shop.svc.cluster.local", &simple)}, sends: meshpolicy.MutualTLS},
	"an IPv6 address is no short name": {rules: destinationRules{rule("shop", "r", "::1", &simple)},
		service: &meshpolicy.Service{Namespace: "shop", Name: "::1", Port: 443, TargetPort: port}, sends: meshpolicy.MutualTLS},
	"everything":            {rules: destinationRules{rule("other", "r", "*", &simple)}, sends: meshpolicy.SimpleTLS, rule: "r"},
	"a domain":              {rules: destinationRules{rule("other", "r", "*.cluster.local", &simple)}, sends: meshpolicy.SimpleTLS, rule: "r"},
	"part of a label":       {rules: destinationRules{rule("other", "r", "*inx.shop.svc.cluster.local", &simple)}, sends: meshpolicy.SimpleTLS, rule: "r"},
	"the whole name":        {rules: destinationRules{rule("other", "r", "*"+host, &simple)}, sends: meshpolicy.SimpleTLS, rule: "r"},
	"a domain below":        {rules: destinationRules{rule("other", "r", "*."+host, &simple)}, sends: meshpolicy.MutualTLS},
	"a wildcard for a part": {rules: destinationRules{rule("other", "r", "*.shop", &simple)}, sends: meshpolicy.MutualTLS},
	"a full name beats a wildcard, whatever its age": {rules: destinationRules{rule("other", "wild", "*.shop.svc.cluster.local", &simple, minutesOld(9)), rule("other", "exact", host, &disabled)},
		sends: meshpolicy.Plaintext, rule: "exact"},
	"a full name beats a longer wildcard": {rules: destinationRules{rule("other", "wild", "*"+host, &simple, minutesOld(9)), rule("other", "exact", host, &disabled)},
		sends: meshpolicy.Plaintext, rule: "exact"},
	"the longer wildcard counts": {rules: destinationRules{rule("other", "wide", "*.cluster.local", &simple, minutesOld(9)), rule("other", "narrow", "*.shop.svc.cluster.local", &disabled)},
		sends: meshpolicy.Plaintext, rule: "narrow"},
	"another cluster domain": {rules: destinationRules{rule("shop", "r", "nginx", &simple), rule("shop", "s", host, &disabled)},
		mesh: &meshpolicy.Mesh{AutoMTLS: true, ClusterDomain: "example.org"}, sends: meshpolicy.SimpleTLS, rule: "r"},
}

var byNamespace = map[string]way{
	"the client's before the service's": {rules: destinationRules{rule("shop", "server", host, &simple, minutesOld(9)), rule("other", "client", host, &disabled)},
		sends: meshpolicy.Plaintext, rule: "client"},
	"the client's wildcard before the service's name": {rules: destinationRules{rule("shop", "server", host, &simple), rule("other", "client", "*", &disabled)},
		sends: meshpolicy.Plaintext, rule: "client"},
	"the service's before the root's": {rules: destinationRules{rule(root, "mesh", host, &simple, minutesOld(9)), rule("shop", "server", "*", &disabled)},
		sends: meshpolicy.Plaintext, rule: "server"},
	"the root's in the end": {rules: destinationRules{rule(root, "mesh", "*", &simple)}, sends: meshpolicy.SimpleTLS, rule: "mesh"},
	"a stranger's never":    {rules: destinationRules{rule("third", "r", host, &simple)}, sends: meshpolicy.MutualTLS},
	"another root": {rules: destinationRules{rule(root, "former", host, &simple), rule("mesh-root", "present", host, &disabled)},
		mesh: &meshpolicy.Mesh{AutoMTLS: true, RootNamespace: "mesh-root"}, sends: meshpolicy.Plaintext, rule: "present"},
	"a client in the root takes the service's before the root's": {rules: destinationRules{rule(root, "mesh", host, &simple), rule("shop", "server", "*", &disabled)},
		client: &fromTheMesh, sends: meshpolicy.Plaintext, rule: "server"},
	"and the root's private before both": {rules: destinationRules{rule(root, "private", "*", &simple, exportTo(".")), rule("shop", "server", host, &disabled)},
		client: &fromTheMesh, sends: meshpolicy.SimpleTLS, rule: "private"},
	"and the root's public in the end": {rules: destinationRules{rule(root, "mesh", host, &simple)}, client: &fromTheMesh, sends: meshpolicy.SimpleTLS, rule: "mesh"},
}

var byExport = map[string]way{
	"to everybody":                   {rules: destinationRules{rule("shop", "r", host, &simple, exportTo("*"))}, sends: meshpolicy.SimpleTLS, rule: "r"},
	"to the client":                  {rules: destinationRules{rule("shop", "r", host, &simple, exportTo("third", "other"))}, sends: meshpolicy.SimpleTLS, rule: "r"},
	"to somebody else":               {rules: destinationRules{rule("shop", "r", host, &simple, exportTo("third"))}, sends: meshpolicy.MutualTLS},
	"to the own namespace":           {rules: destinationRules{rule("shop", "r", host, &simple, exportTo("."))}, sends: meshpolicy.MutualTLS},
	"to the own namespace, by name":  {rules: destinationRules{rule("shop", "r", host, &simple, exportTo("shop"))}, sends: meshpolicy.MutualTLS},
	"private, from the namespace":    {rules: destinationRules{rule("shop", "r", host, &simple, exportTo("."))}, client: &fromTheShop, sends: meshpolicy.SimpleTLS, rule: "r"},
	"by name, from the namespace":    {rules: destinationRules{rule("shop", "r", host, &simple, exportTo("shop"))}, client: &fromTheShop, sends: meshpolicy.SimpleTLS, rule: "r"},
	"elsewhere, from the namespace":  {rules: destinationRules{rule("shop", "r", host, &simple, exportTo("other"))}, client: &fromTheShop, sends: meshpolicy.MutualTLS},
	"private in the root namespace":  {rules: destinationRules{rule(root, "r", host, &simple, exportTo("."))}, sends: meshpolicy.MutualTLS},
	"the root's, with others":        {rules: destinationRules{rule(root, "r", host, &simple, exportTo(".", "other"))}, client: &fromTheMesh, sends: meshpolicy.MutualTLS},
	"the mesh's default is private":  {rules: destinationRules{rule("shop", "r", host, &simple)}, mesh: &meshpolicy.Mesh{AutoMTLS: true, DestinationRuleExportTo: []string{"."}}, sends: meshpolicy.MutualTLS},
	"a default does not bind others": {rules: destinationRules{rule("shop", "r", host, &simple, exportTo("*"))}, mesh: &meshpolicy.Mesh{AutoMTLS: true, DestinationRuleExportTo: []string{"."}}, sends: meshpolicy.SimpleTLS, rule: "r"},
	"a default that names is void":   {rules: destinationRules{rule("shop", "r", host, &simple)}, mesh: &meshpolicy.Mesh{AutoMTLS: true, DestinationRuleExportTo: []string{"third"}}, sends: meshpolicy.SimpleTLS, rule: "r"},
	"a name that is exported elsewhere hides the wildcard": {rules: destinationRules{rule("shop", "name", host, &disabled, exportTo("third")), rule("shop", "wild", "*", &simple)},
		sends: meshpolicy.MutualTLS, why: "DestinationRule shop/name, which is not for this client, hides DestinationRule shop/wild"},
	"and leaves the root's": {rules: destinationRules{rule("shop", "name", host, &disabled, exportTo("third")), rule("shop", "wild", "*", &disabled), rule(root, "mesh", "*", &simple)},
		sends: meshpolicy.SimpleTLS, rule: "mesh"},
}

var bySelector = map[string]way{
	"selects the client":    {rules: destinationRules{rule("other", "r", host, &simple, selecting(sleep))}, sends: meshpolicy.SimpleTLS, rule: "r"},
	"selects another":       {rules: destinationRules{rule("other", "r", host, &simple, selecting(sleep))}, client: &another, sends: meshpolicy.MutualTLS},
	"selects everybody":     {rules: destinationRules{rule("other", "r", host, &simple, selecting(map[string]string{}))}, sends: meshpolicy.SimpleTLS, rule: "r"},
	"only in its namespace": {rules: destinationRules{rule("shop", "r", host, &simple, selecting(sleep), exportTo("*"))}, sends: meshpolicy.MutualTLS},
	"goes before one that does not select, whatever its age": {rules: destinationRules{rule("other", "all", host, &simple, minutesOld(9)), rule("other", "some", host, &disabled, selecting(sleep))},
		sends: meshpolicy.Plaintext, rule: "some"},
	"leaves the others to one that does not select": {rules: destinationRules{rule("other", "all", host, &simple, minutesOld(9)), rule("other", "some", host, &disabled, selecting(sleep))},
		client: &another, sends: meshpolicy.SimpleTLS, rule: "all"},
	"the oldest that selects counts": {rules: destinationRules{rule("other", "young", host, &simple, selecting(sleep)), rule("other", "old", host, &disabled, selecting(map[string]string{}), minutesOld(9))},
		sends: meshpolicy.Plaintext, rule: "old"},
	"one for other clients hides the service's": {rules: destinationRules{rule("other", "some", host, &disabled, selecting(sleep)), rule("shop", "all", host, &simple)}, client: &another,
		sends: meshpolicy.MutualTLS, why: "DestinationRule other/some, which is not for this client, hides DestinationRule shop/all"},
	"and swallows a private one": {rules: destinationRules{rule("other", "some", host, &disabled, selecting(sleep)), rule("other", "all", host, &simple, exportTo("."))}, client: &another,
		sends: meshpolicy.MutualTLS, why: "DestinationRule other/some, which is not for this client, hides DestinationRule other/all"},
	"but no public one": {rules: destinationRules{rule("other", "some", host, &disabled, selecting(sleep)), rule("other", "all", host, &simple, exportTo("*"))}, client: &another,
		sends: meshpolicy.SimpleTLS, rule: "all"},
	"takes the settings of the private one that it swallows": {rules: destinationRules{rule("other", "some", host, nil, selecting(sleep)), rule("other", "all", host, &simple, exportTo("."))},
		sends: meshpolicy.SimpleTLS, rule: "all"},
	"and of one that is private among others": {rules: destinationRules{rule("other", "some", host, nil, selecting(sleep)), rule("other", "all", host, &simple, exportTo(".", "third"))},
		sends: meshpolicy.SimpleTLS, rule: "all"},
	"which still stands for itself": {rules: destinationRules{rule("other", "some", host, nil, selecting(sleep)), rule("other", "all", host, &simple, exportTo(".", "third"))}, client: &another,
		sends: meshpolicy.SimpleTLS, rule: "all"},
	"not of a public one": {rules: destinationRules{rule("other", "some", host, nil, selecting(sleep)), rule("other", "all", host, &simple)},
		sends: meshpolicy.MutualTLS, why: "DestinationRule other/some is in force instead of DestinationRule other/all and sets no TLS"},
	"two that select the same are one": {rules: destinationRules{rule("other", "old", host, nil, selecting(sleep), minutesOld(9)), rule("other", "young", host, &simple, selecting(sleep))},
		sends: meshpolicy.SimpleTLS, rule: "young"},
	"nor are they where the client is the younger's": {rules: destinationRules{rule("other", "old", host, &disabled, selecting(sleep), minutesOld(9)), rule("other", "young", host, &simple, selecting(map[string]string{"app": "curl"}))},
		client: &another, sends: meshpolicy.SimpleTLS, rule: "young"},
	"two that select differently are not": {rules: destinationRules{rule("other", "old", host, nil, selecting(sleep), minutesOld(9)), rule("other", "young", host, &simple, selecting(map[string]string{}))},
		sends: meshpolicy.MutualTLS},
}

var byMerging = map[string]way{
	"the oldest counts": {rules: destinationRules{rule("other", "young", host, &simple), rule("other", "old", host, &disabled, minutesOld(9))},
		sends: meshpolicy.Plaintext, rule: "old"},
	"of the same second the first by name": {rules: destinationRules{rule("other", "b", host, &simple), rule("other", "a", host, &disabled)}, sends: meshpolicy.Plaintext, rule: "a"},
	"a name is a name, short or full":      {rules: destinationRules{rule("shop", "young", "nginx", &simple), rule("shop", "old", host, &disabled, minutesOld(9))}, sends: meshpolicy.Plaintext, rule: "old"},
	"one without trafficPolicy leaves it to the next": {rules: destinationRules{rule("other", "old", host, nil, minutesOld(9)), rule("other", "young", host, &simple)},
		sends: meshpolicy.SimpleTLS, rule: "young"},
	"one whose trafficPolicy has no tls does not": {rules: destinationRules{rule("other", "old", host, nil, minutesOld(9), withTrafficPolicy), rule("other", "young", host, &simple)},
		sends: meshpolicy.MutualTLS, why: "DestinationRule other/old is in force instead of DestinationRule other/young and sets no TLS for the port; auto mTLS finds"},
	"even if it is only for another port": {rules: destinationRules{rule("other", "old", host, nil, minutesOld(9), onPort(80, &disabled)), rule("other", "young", host, &simple)},
		sends: meshpolicy.MutualTLS},
	"the settings of two are not mixed": {rules: destinationRules{rule("other", "old", host, nil, minutesOld(9), onPort(80, &disabled)), rule("other", "young", host, nil, onPort(443, &simple))},
		sends: meshpolicy.MutualTLS},
	"settings count, whether or not the trafficPolicy is announced": {rules: destinationRules{{Namespace: "other", Name: "tls", Host: host, TLS: &disabled, Created: created.Add(-time.Minute)}, rule("other", "young", host, &simple)},
		sends: meshpolicy.Plaintext, rule: "tls"},
	"PASSTHROUGH counts": {rules: destinationRules{{Namespace: "other", Name: "old", Host: host, Passthrough: true, Created: created.Add(-time.Minute)}, rule("other", "young", host, &simple)},
		sends: meshpolicy.MutualTLS},
	"a port counts": {rules: destinationRules{{Namespace: "other", Name: "old", Host: host, PortTLS: map[uint32]*meshpolicy.ClientTLS{80: nil}, Created: created.Add(-time.Minute)}, rule("other", "young", host, &simple)},
		sends: meshpolicy.MutualTLS},
	"exported differently, the youngest counts": {rules: destinationRules{rule("other", "old", host, &disabled, minutesOld(9)), rule("other", "young", host, &simple, exportTo("*"))},
		sends: meshpolicy.SimpleTLS, rule: "young"},
	"exported to more, it is added to the older and lost to the rest": {rules: destinationRules{rule("shop", "old", host, nil, exportTo("third"), minutesOld(9)), rule("shop", "young", host, &simple, exportTo("third", "other"))},
		sends: meshpolicy.MutualTLS},
	"exported to the same, in another order, they are one": {rules: destinationRules{rule("shop", "old", host, &disabled, exportTo("third", "other"), minutesOld(9)), rule("shop", "young", host, &simple, exportTo("other", "third"))},
		sends: meshpolicy.Plaintext, rule: "old"},
	"a third is one with the first and stands for itself after the second": {rules: destinationRules{rule("other", "first", host, &disabled, minutesOld(9)),
		rule("other", "second", host, &disabled, exportTo("*"), minutesOld(5)), rule("other", "third", host, &simple)}, sends: meshpolicy.SimpleTLS, rule: "third"},
}

var bySettings = map[string]way{
	"DISABLE":            {rules: destinationRules{rule("other", "r", host, &disabled)}, sends: meshpolicy.Plaintext, rule: "r", why: "DestinationRule other/r sets DISABLE"},
	"tls without mode":   {rules: destinationRules{rule("other", "r", host, &meshpolicy.ClientTLS{})}, sends: meshpolicy.Plaintext, rule: "r", why: "sets DISABLE"},
	"ISTIO_MUTUAL":       {rules: destinationRules{rule("other", "r", host, &istioMutual)}, sends: meshpolicy.MutualTLS, rule: "r"},
	"an unready pod":     {rules: destinationRules{rule("other", "r", host, &istioMutual)}, pod: &unreadyPod, sends: meshpolicy.MutualTLS, rule: "r"},
	"a policy against":   {rules: destinationRules{rule("other", "r", host, &istioMutual)}, policies: policies{namespaceOff}, sends: meshpolicy.MutualTLS, rule: "r"},
	"auto mTLS off":      {rules: destinationRules{rule("other", "r", host, &istioMutual)}, mesh: &meshpolicy.Mesh{}, sends: meshpolicy.MutualTLS, rule: "r"},
	"headless":           {rules: destinationRules{rule("other", "r", host, &istioMutual)}, service: &mixed, sends: meshpolicy.MutualTLS, rule: "r"},
	"MUTUAL":             {rules: destinationRules{rule("other", "r", host, &mutual)}, sends: meshpolicy.OtherTLS, rule: "r"},
	"MUTUAL without key": {rules: destinationRules{rule("other", "r", host, &meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSMutual, ClientCertificate: "/certs/client.pem"})}, sends: meshpolicy.Plaintext, rule: "r", why: "without a client certificate and its key"},
	"MUTUAL without certificate": {rules: destinationRules{rule("other", "r", host, &meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSMutual, PrivateKey: "/certs/key.pem"})},
		sends: meshpolicy.Plaintext, rule: "r"},
	"a credential without selector": {rules: destinationRules{rule("other", "r", host, &meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSSimple, CredentialName: "roots"})},
		sends: meshpolicy.Plaintext, rule: "r", why: "sets SIMPLE with a credentialName, which sidecars ignore together with the mode"},
	"MUTUAL with a credential without selector": {rules: destinationRules{rule("other", "r", host, &meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSMutual, CredentialName: "roots"})},
		sends: meshpolicy.Plaintext, rule: "r"},
	"a credential with selector": {rules: destinationRules{rule("other", "r", host, &meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSSimple, CredentialName: "roots"}, selecting(sleep))},
		sends: meshpolicy.SimpleTLS, rule: "r"},
	"MUTUAL with a credential with selector": {rules: destinationRules{rule("other", "r", host, &meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSMutual, CredentialName: "roots"}, selecting(sleep))},
		sends: meshpolicy.OtherTLS, rule: "r"},
	"a credential of a rule that one with selector has swallowed": {rules: destinationRules{rule("other", "some", host, nil, selecting(sleep)),
		rule("other", "all", host, &meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSSimple, CredentialName: "roots"}, exportTo("."))}, sends: meshpolicy.SimpleTLS, rule: "all"},
	"a credential in a config map": {rules: destinationRules{rule("other", "r", host, &meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSSimple, CredentialName: "configmap://roots"})},
		sends: meshpolicy.SimpleTLS, rule: "r"},
	"ISTIO_MUTUAL with a credential": {rules: destinationRules{rule("other", "r", host, &meshpolicy.ClientTLS{Mode: meshpolicy.ClientTLSIstioMutual, CredentialName: "roots"})},
		sends: meshpolicy.MutualTLS, rule: "r"},
	"a mode of tomorrow is not judged": {rules: destinationRules{rule("other", "r", host, &meshpolicy.ClientTLS{Mode: "QUANTUM"})}, sends: "", rule: "r", why: "sets QUANTUM, a mode that is not known here"},

	"the port before the rest":    {rules: destinationRules{rule("other", "r", host, &disabled, onPort(443, &simple))}, sends: meshpolicy.SimpleTLS, rule: "r"},
	"another port":                {rules: destinationRules{rule("other", "r", host, &disabled, onPort(80, &simple))}, sends: meshpolicy.Plaintext, rule: "r"},
	"the service's port is meant": {rules: destinationRules{rule("other", "r", host, &disabled, onPort(8443, &simple))}, sends: meshpolicy.Plaintext, rule: "r"},
	"the port alone":              {rules: destinationRules{rule("other", "r", host, nil, onPort(443, &simple))}, sends: meshpolicy.SimpleTLS, rule: "r"},
	"the port without tls is not SIMPLE": {rules: destinationRules{rule("other", "r", host, &simple, onPort(443, nil))}, sends: meshpolicy.Plaintext, rule: "r",
		why: "DestinationRule other/r has portLevelSettings for port 443 without tls, so auto mTLS decides, for which the SIMPLE of its other ports counts"},
	"nor DISABLE, but plaintext all the same": {rules: destinationRules{rule("other", "r", host, &meshpolicy.ClientTLS{}, onPort(443, nil))}, sends: meshpolicy.Plaintext, rule: "r",
		why: "the DISABLE of its other ports counts"},
	"nor ISTIO_MUTUAL, but mutual all the same": {rules: destinationRules{rule("other", "r", host, &istioMutual, onPort(443, nil))},
		policies: policies{policy("shop", "own", disable, nginx, 0)}, sends: meshpolicy.MutualTLS, rule: "r"},
	"unless the pod is not ready": {rules: destinationRules{rule("other", "r", host, &istioMutual, onPort(443, nil))}, pod: &unreadyPod, sends: meshpolicy.Plaintext},
	"nothing for any port":        {rules: destinationRules{rule("other", "r", host, nil, onPort(443, nil))}, sends: meshpolicy.MutualTLS},
}

func TestForClientByRules(t *testing.T) {
	for part, ways := range map[string]map[string]way{
		"host": byHost, "namespace": byNamespace, "export": byExport, "selector": bySelector, "merging": byMerging, "settings": bySettings,
	} {
		for name, w := range ways {
			t.Run(part+"/"+name, func(t *testing.T) { w.check(t) })
		}
	}
}

func (w way) check(t *testing.T) {
	t.Helper()
	got := w.ask(w.rules)
	rule, policy := "", ""
	if got.Rule != nil {
		rule = got.Rule.Name
	}
	if got.Policy != nil {
		policy = got.Policy.Name
	}
	if got.Sends != w.sends || rule != w.rule || policy != w.policy || !strings.Contains(got.Why, w.why) || got.Why == "" {
		t.Errorf("sends %q by rule %q and policy %q, as %s\nwant  %q by rule %q and policy %q, as %s",
			got.Sends, rule, policy, got.Why, w.sends, w.rule, w.policy, w.why)
	}
	reversed := slices.Clone(w.rules)
	slices.Reverse(reversed)
	if again := w.ask(reversed); !reflect.DeepEqual(again, got) {
		t.Errorf("in another order: %+v, want %+v", again, got)
	}
}

func TestOverriddenRules(t *testing.T) {
	for name, c := range map[string]struct {
		way  way
		want []string
	}{
		"none":                       {way{rules: destinationRules{rule("other", "r", host, &simple)}}, nil},
		"by namespace, then by host": {way{rules: destinationRules{rule(root, "mesh", host, &simple), rule("shop", "wild", "*", &simple, minutesOld(9)), rule("shop", "name", host, &simple), rule("other", "r", host, &simple)}}, []string{"name", "wild", "mesh"}},
		"by age":                     {way{rules: destinationRules{rule("other", "young", host, &simple), rule("other", "old", host, &simple, minutesOld(5)), rule("other", "r", host, &simple, minutesOld(9))}}, []string{"old", "young"}},
		"each once":                  {way{client: &fromTheShop, rules: destinationRules{rule("shop", "young", host, &simple), rule("shop", "r", host, &simple, minutesOld(9))}}, []string{"young"}},
		"among those that select":    {way{rules: destinationRules{rule("other", "young", host, &simple, selecting(sleep)), rule("other", "r", host, &simple, selecting(sleep), minutesOld(9))}}, []string{"young"}},
		"a namesake":                 {way{rules: destinationRules{rule("shop", "r", host, &simple), rule("other", "r", host, &simple)}}, []string{"r"}},
		"not what sets no TLS":       {way{rules: destinationRules{rule("shop", "none", host, nil, withTrafficPolicy), rule("shop", "port", host, nil, onPort(80, &simple)), rule("other", "r", host, &simple)}}, nil},
		"not what the client cannot see": {way{rules: destinationRules{rule("shop", "elsewhere", host, &simple, exportTo("third")), rule("other", "selecting", host, &simple, selecting(map[string]string{"app": "curl"})),
			rule("third", "stranger", host, &simple), rule("other", "r", host, &simple)}}, nil},
		"not what is for another host": {way{rules: destinationRules{rule("other", "redis", "redis.shop.svc.cluster.local", &simple), rule("other", "r", host, &simple)}}, nil},
	} {
		var got []string
		for _, lost := range c.way.ask(c.way.rules).Overridden {
			got = append(got, lost.Name)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
