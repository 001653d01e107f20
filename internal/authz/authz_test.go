package authz_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/meshprobe/httpsmeshprobe/internal/authz"
)

const (
	sleep = "spiffe://cluster.local/ns/probes/sa/sleep"
	port  = 8443
)

type (
	conditions = []authz.Condition
	policy     = authz.Policy
)

var server = authz.Server{Namespace: "shop", Labels: map[string]string{"app": "web"}, Port: port}

func is(key string, values ...string) authz.Condition {
	return authz.Condition{Key: key, Values: values}
}

func isNot(key string, values ...string) authz.Condition {
	return authz.Condition{Key: key, NotValues: values}
}

func from(all ...authz.Condition) authz.Rule { return authz.Rule{From: []conditions{all}} }

func to(all ...authz.Condition) authz.Rule { return authz.Rule{To: []conditions{all}} }

func when(all ...authz.Condition) authz.Rule { return authz.Rule{When: all} }

func allow(rules ...authz.Rule) policy {
	return policy{Namespace: "shop", Name: "allow", Action: authz.Allow, Rules: rules}
}

func deny(rules ...authz.Rule) policy {
	return policy{Namespace: "shop", Name: "deny", Action: authz.Deny, Rules: rules}
}

func with(p policy, change func(*policy)) policy {
	change(&p)
	return p
}

// said is a verdict in short: "denied by allow", "open for deny", or "" where the client is admitted.
func said(verdict authz.Verdict) string {
	var words []string
	for _, denial := range verdict.Denials {
		words = append(words, "denied by "+denial.Object.Name)
	}
	for _, denial := range verdict.Uncertain {
		words = append(words, "open for "+denial.Object.Name)
	}
	return strings.Join(words, ", ")
}

func TestPoliciesTogether(t *testing.T) {
	everybody, nobody := authz.Rule{}, allow()
	others := from(is("source.principal", "cluster.local/ns/attic/sa/sleep"))
	custom := policy{Namespace: "shop", Name: "custom", Action: authz.Custom, Rules: []authz.Rule{everybody}}
	for name, c := range map[string]struct {
		policies []policy
		want     string
	}{
		"none":                              {nil, ""},
		"one that admits everybody":         {[]policy{allow(everybody)}, ""},
		"one without rules":                 {[]policy{nobody}, "denied by allow"},
		"one that admits others":            {[]policy{allow(others)}, "denied by allow"},
		"one of two rules admits":           {[]policy{allow(others, everybody)}, ""},
		"one of two policies admits":        {[]policy{allow(others), allow(everybody)}, ""},
		"neither of two policies admits":    {[]policy{allow(others), with(nobody, func(p *policy) { p.Name = "second" })}, "denied by allow, denied by second"},
		"one that denies everybody":         {[]policy{deny(everybody)}, "denied by deny"},
		"one that denies others":            {[]policy{deny(others)}, ""},
		"one that denies without rules":     {[]policy{deny()}, ""},
		"denied before allowed":             {[]policy{allow(everybody), deny(everybody)}, "denied by deny"},
		"counted, not enforced":             {[]policy{with(deny(everybody), func(p *policy) { p.DryRun = true }), with(nobody, func(p *policy) { p.DryRun = true })}, ""},
		"logged":                            {[]policy{{Namespace: "shop", Name: "audit", Action: authz.Audit, Rules: []authz.Rule{everybody}}}, ""},
		"an authorizer is asked":            {[]policy{custom}, "open for custom"},
		"an authorizer, though dry-run":     {[]policy{with(custom, func(p *policy) { p.DryRun = true })}, "open for custom"},
		"an authorizer, for others":         {[]policy{with(custom, func(p *policy) { p.Rules = []authz.Rule{others} })}, ""},
		"an action nobody knows":            {[]policy{with(custom, func(p *policy) { p.Action = "HINT" })}, "open for custom"},
		"one that could not be read":        {[]policy{with(nobody, func(p *policy) { p.Unread = "odd" })}, "open for allow"},
		"of another namespace":              {[]policy{with(nobody, func(p *policy) { p.Namespace = "attic" })}, ""},
		"of the root namespace":             {[]policy{with(nobody, func(p *policy) { p.Namespace = "istio-system" })}, "denied by allow"},
		"of the root namespace, for others": {[]policy{with(nobody, func(p *policy) { p.Namespace, p.Selector = "istio-system", map[string]string{"app": "db"} })}, ""},
		"for the pod":                       {[]policy{with(nobody, func(p *policy) { p.Selector = map[string]string{"app": "web"} })}, "denied by allow"},
		"for another pod":                   {[]policy{with(nobody, func(p *policy) { p.Selector = map[string]string{"app": "web", "tier": "1"} })}, ""},
		"for a gateway":                     {[]policy{with(nobody, func(p *policy) { p.TargetRefs = true })}, ""},
		// An open question of one policy is settled by what another says for certain.
		"open, and another admits":   {[]policy{allow(from(is("source.ip", "10.0.0.0/8"))), allow(everybody)}, ""},
		"open, and another does not": {[]policy{allow(from(is("source.ip", "10.0.0.0/8"))), with(nobody, func(p *policy) { p.Name = "second" })}, "open for allow"},
		"open, and another denies":   {[]policy{allow(from(is("source.ip", "10.0.0.0/8"))), deny(everybody)}, "denied by deny, open for allow"},
	} {
		if got := said(authz.Judge(c.policies, "istio-system", server, sleep)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	gateway := server
	gateway.Labels = map[string]string{"app": "web", "gateway.networking.k8s.io/gateway-name": "web"}
	if got := said(authz.Judge([]policy{nobody}, "istio-system", gateway, sleep)); got != "open for allow" {
		t.Errorf("before a gateway: %q", got)
	}
}

// Every rule stands in a policy that allows and in one that denies.
func TestRules(t *testing.T) {
	const yes, no, open, never = "matches", "does not match", "open", "vanishes from ALLOW, matches in DENY"
	for name, c := range map[string]struct {
		rule          authz.Rule
		sleep, nobody string
	}{
		"everything":                     {authz.Rule{}, yes, yes},
		"an empty source":                {from(), yes, yes},
		"the principal":                  {from(is("source.principal", "cluster.local/ns/probes/sa/sleep")), yes, no},
		"another principal":              {from(is("source.principal", "cluster.local/ns/probes/sa/other")), no, no},
		"one of two principals":          {from(is("source.principal", "x/ns/a/sa/b", "cluster.local/ns/probes/sa/sleep")), yes, no},
		"any principal":                  {from(is("source.principal", "*")), yes, no},
		"a beginning":                    {from(is("source.principal", "cluster.local/ns/probes/*")), yes, no},
		"an end":                         {from(is("source.principal", "*/ns/probes/sa/sleep")), yes, no},
		"a pattern of others":            {from(is("source.principal", "*/ns/attic/*")), no, no},
		"not the principal":              {from(isNot("source.principal", "cluster.local/ns/probes/sa/sleep")), no, yes},
		"nobody with a principal":        {from(isNot("source.principal", "*")), no, yes},
		"not another principal":          {from(isNot("source.principal", "cluster.local/ns/attic/sa/sleep")), yes, yes},
		"any, but not this one":          {from(authz.Condition{Key: "source.principal", Values: []string{"*"}, NotValues: []string{"*/sa/sleep"}}), no, no},
		"a trust domain that may be its": {from(is("source.principal", "old.example/ns/probes/sa/sleep")), open, no},
		"not one that may be its":        {from(isNot("source.principal", "old.example/ns/probes/sa/sleep")), open, yes},
		"a trust domain, other rest":     {from(is("source.principal", "old.example/ns/probes/sa/other")), no, no},
		"the namespace":                  {from(is("source.namespace", "probes")), yes, no},
		"a namespace by pattern":         {from(is("source.namespace", "pro*")), yes, no},
		"a namespace that contains it":   {from(is("source.namespace", "probe")), no, no},
		"not the namespace":              {from(isNot("source.namespace", "probes")), no, yes},
		"a dot is a dot":                 {from(is("source.namespace", "prob.s")), no, no},
		"the service account":            {from(is("source.serviceAccount", "probes/sleep")), yes, no},
		"one of the policy's namespace":  {from(is("source.serviceAccount", "sleep")), no, no},
		"the trust domain":               {from(is("source.trustDomain", "cluster.local")), yes, no},
		"any trust domain":               {from(is("source.trustDomain", "*")), yes, no},
		"a trust domain by pattern":      {from(is("source.trustDomain", "*.local")), yes, no},
		"none by pattern":                {from(is("source.trustDomain", "*.example")), no, no},
		"a trust domain, maybe an alias": {from(is("source.trustDomain", "old.example")), open, no},
		"two conditions, one does not":   {from(is("source.namespace", "probes"), is("source.principal", "*/sa/other")), no, no},
		"two sources, one does":          {authz.Rule{From: []conditions{{is("source.namespace", "attic")}, {is("source.namespace", "probes")}}}, yes, no},
		"the port":                       {to(is("destination.port", "8443")), yes, yes},
		"another port":                   {to(is("destination.port", "443")), no, no},
		"not the port":                   {to(isNot("destination.port", "8443")), no, no},
		"a port that is none":            {to(is("destination.port", "https")), open, open},
		"when the port":                  {when(is("destination.port", "8443")), yes, yes},
		"when another namespace":         {when(is("source.namespace", "attic")), no, no},
		"an address":                     {from(is("source.ip", "10.0.0.0/8")), open, open},
		"an address of others":           {from(is("source.ip", "10.0.0.0/8"), is("source.namespace", "attic")), no, no},
		"a remote address":               {from(isNot("remote.ip", "10.0.0.0/8")), open, open},
		"a server name":                  {when(is("connection.sni", "web.example")), open, open},
		"what Envoy's filters know":      {when(is("experimental.envoy.filters.a[b]", "c")), open, open},
		"what nobody knows":              {when(is("source.mood", "good")), open, open},
		"a long value":                   {from(is("source.namespace", strings.Repeat("*", 2000))), open, open},
		"a method":                       {to(is(authz.KeyMethod, "GET")), never, never},
		"a path, and the port":           {to(is(authz.KeyPath, "/x"), is("destination.port", "8443")), never, never},
		"not a host":                     {to(isNot(authz.KeyHost, "a.example")), never, never},
		"a header":                       {when(is("request.headers[x]", "y")), never, never},
		"a request's principal":          {from(is("request.auth.principal", "*")), never, never},
		"a claim":                        {when(is("request.auth.claims[iss]", "y")), never, never},
		"a condition without a value":    {to(is(authz.KeyMethod)), yes, yes},
		// Where it allows, one condition of HTTP takes the whole rule away, even beside an alternative without.
		"a method, or the port": {authz.Rule{To: []conditions{{is(authz.KeyMethod, "GET")}, {is("destination.port", "443")}}}, never, never},
	} {
		for client, want := range map[string]string{sleep: c.sleep, "": c.nobody} {
			got := map[bool]string{}
			for _, allows := range []bool{true, false} {
				held := deny(c.rule)
				if allows {
					held = allow(c.rule)
				}
				verdict := authz.Judge([]policy{held}, "istio-system", server, client)
				denied := len(verdict.Denials) > 0
				switch {
				case len(verdict.Uncertain) > 0 && denied:
					t.Errorf("%s, client %q: both certain and not", name, client)
				case len(verdict.Uncertain) > 0:
					got[allows] = open
				case denied != allows:
					got[allows] = yes
				default:
					got[allows] = no
				}
			}
			wanted := fmt.Sprint(want, want)
			if want == never {
				wanted = fmt.Sprint(no, yes)
			}
			if found := fmt.Sprint(got[true], got[false]); found != wanted {
				t.Errorf("%s, client %q: in ALLOW it %s, in DENY it %s; want %s", name, client, got[true], got[false], want)
			}
		}
	}
}

// The trust domain of the mesh may have a name, and policies speak of it as cluster.local all the same.
func TestClusterLocalIsTheMeshsOwnTrustDomain(t *testing.T) {
	held := []policy{allow(from(is("source.principal", "cluster.local/ns/probes/sa/sleep")))}
	if got := said(authz.Judge(held, "istio-system", server, "spiffe://td.example/ns/probes/sa/sleep")); got != "" {
		t.Errorf("%q", got)
	}
	if got := said(authz.Judge(held, "istio-system", server, "spiffe://td.example/ns/probes/sa/other")); got != "denied by allow" {
		t.Errorf("%q", got)
	}
}

func TestDenialsSayWhy(t *testing.T) {
	for _, c := range []struct {
		policy   policy
		identity string
		want     string
	}{
		{allow(), sleep, "AuthorizationPolicy shop/allow: it has no rules, so it admits nobody"},
		{allow(from(is("source.namespace", "attic"))), sleep, "AuthorizationPolicy shop/allow: it does not admit spiffe://cluster.local/ns/probes/sa/sleep at port 8443"},
		{allow(to(is(authz.KeyMethod, "GET"))), "", "AuthorizationPolicy shop/allow: it does not admit clients without a certificate of the mesh at port 8443; rules that speak of HTTP admit nobody at a TCP port"},
		{deny(authz.Rule{}), sleep, "AuthorizationPolicy shop/deny: it denies spiffe://cluster.local/ns/probes/sa/sleep at port 8443"},
	} {
		verdict := authz.Judge([]policy{c.policy}, "istio-system", server, c.identity)
		if len(verdict.Denials) != 1 || verdict.Denials[0].Object.String()+": "+verdict.Denials[0].Why != c.want {
			t.Errorf("%+v, want %s", verdict, c.want)
		}
	}
}
