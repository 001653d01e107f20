package authz

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// connection is what is known of one.
type connection struct {
	identity string
	port     uint32
}

func (c connection) String() string {
	if c.identity == "" {
		return fmt.Sprintf("clients without a certificate of the mesh at port %d", c.port)
	}
	return fmt.Sprintf("%s at port %d", c.identity, c.port)
}

// answer says whether something matches; its order makes the least of several their conjunction, and the greatest their
// disjunction.
type answer int

const (
	no answer = iota
	unknown
	yes
)

func not(a answer) answer { return yes - a }

func answered(matches bool) answer {
	if matches {
		return yes
	}
	return no
}

func (p Policy) matches(client connection) answer {
	found := no
	for _, rule := range p.Rules {
		found = max(found, rule.matches(client, p))
	}
	return found
}

// matches follows pilot/pkg/security/authz/model/model.go (Generate, checkError). A condition that only HTTP has makes a rule
// that allows vanish from TCP ports; of one that denies only the condition does, so that it denies more.
func (r Rule) matches(client connection, policy Policy) answer {
	if policy.Action == Allow {
		if slices.ContainsFunc(r.conditions(), Condition.httpOnly) {
			return no
		}
	}
	return min(oneOf(r.From, client, policy), oneOf(r.To, client, policy), allOf(r.When, client, policy))
}

func (r Rule) conditions() []Condition {
	return slices.Concat(slices.Concat(r.From...), slices.Concat(r.To...), r.When)
}

func oneOf(alternatives [][]Condition, client connection, policy Policy) answer {
	if len(alternatives) == 0 {
		return yes
	}
	found := no
	for _, conditions := range alternatives {
		found = max(found, allOf(conditions, client, policy))
	}
	return found
}

func allOf(conditions []Condition, client connection, policy Policy) answer {
	found := yes
	for _, condition := range conditions {
		if !condition.httpOnly() {
			found = min(found, condition.matches(client, policy))
		}
	}
	return found
}

// httpOnly follows pilot/pkg/security/authz/model/generator.go. A condition without any value is none.
func (c Condition) httpOnly() bool {
	if len(c.Values) == 0 && len(c.NotValues) == 0 {
		return false
	}
	return slices.Contains([]string{KeyHost, KeyMethod, KeyPath}, c.Key) ||
		strings.HasPrefix(c.Key, "request.auth.") || strings.HasPrefix(c.Key, "request.headers")
}

func (c Condition) matches(client connection, policy Policy) answer {
	found := yes
	if len(c.Values) > 0 {
		found = c.anyOf(c.Values, client, policy)
	}
	if len(c.NotValues) > 0 {
		found = min(found, not(c.anyOf(c.NotValues, client, policy)))
	}
	return found
}

func (c Condition) anyOf(values []string, client connection, policy Policy) answer {
	found := no
	for _, value := range values {
		found = max(found, c.is(value, client, policy))
	}
	return found
}

// maxValue bounds the values that are made patterns of, in bytes. Kubernetes' names are much shorter.
const maxValue = 1024

// is follows pilot/pkg/security/authz/model/generator.go.
func (c Condition) is(value string, client connection, policy Policy) answer {
	if len(value) > maxValue {
		return unknown
	}
	switch c.Key {
	case "destination.port":
		port, err := strconv.ParseUint(value, 10, 16)
		if err != nil {
			return unknown
		}
		return answered(uint32(port) == client.port)
	case "source.principal", "source.namespace", "source.serviceAccount", "source.trustDomain":
		if client.identity == "" {
			return no
		}
	default:
		return unknown
	}
	switch c.Key {
	case "source.principal":
		return principal(value, client.identity)
	case "source.namespace":
		anything := strings.ReplaceAll(regexp.QuoteMeta(value), `\*`, ".*")
		return answered(matchesWhole(".*/ns/"+anything+"/.*", client.identity))
	case "source.serviceAccount":
		namespace, account, ok := strings.Cut(value, "/")
		if !ok {
			namespace, account = policy.Namespace, value
		}
		return answered(matchesWhole(fmt.Sprintf("spiffe://.+/ns/%s/(.+/|)sa/%s(/.+)?", regexp.QuoteMeta(namespace), regexp.QuoteMeta(account)), client.identity))
	default:
		return trustDomain(value, client.identity)
	}
}

// localTrustDomain stands in policies for the mesh's own trust domain, whatever that is called.
const localTrustDomain = "cluster.local"

// principal follows pilot/pkg/security/authz/matcher/string.go (StringMatcherWithPrefix) and pilot/pkg/security/trustdomain. A
// trust domain other than the client's may be an alias of it, which the mesh config knows.
func principal(value, identity string) answer {
	id := strings.TrimPrefix(identity, spiffe)
	if matchesPrincipal(value, id) {
		return yes
	}
	domain, rest, _ := strings.Cut(value, "/")
	own, _, _ := strings.Cut(id, "/")
	if strings.Count(value, "/") != 4 || domain == "*" || !matchesPrincipal(own+"/"+rest, id) {
		return no
	}
	if domain == localTrustDomain {
		return yes
	}
	return unknown
}

const spiffe = "spiffe://"

func matchesPrincipal(value, id string) bool {
	if suffix, ok := strings.CutPrefix(value, "*"); ok {
		return strings.HasSuffix(id, suffix)
	}
	if prefix, ok := strings.CutSuffix(value, "*"); ok {
		return strings.HasPrefix(id, prefix)
	}
	return value == id
}

func trustDomain(value, identity string) answer {
	before, after, pattern := strings.Cut(value, "*")
	if pattern { // patterns have no aliases
		return answered(matchesWhole(spiffe+regexp.QuoteMeta(before)+"[^/]*"+regexp.QuoteMeta(after)+"/.*", identity))
	}
	if strings.HasPrefix(identity, spiffe+value+"/") {
		return yes
	}
	return unknown
}

func matchesWhole(pattern, text string) bool {
	compiled, err := regexp.Compile("^(?:" + pattern + ")$")
	return err == nil && compiled.MatchString(text)
}
