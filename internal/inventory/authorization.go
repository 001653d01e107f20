package inventory

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshprobe/httpsmeshprobe/internal/authz"
)

// maxAuthorizationPolicies is how many are read of a namespace.
const maxAuthorizationPolicies = 500

// ErrTooManyPolicies says that a namespace has more AuthorizationPolicies than are read, so that nothing can be said of them.
var ErrTooManyPolicies = errors.New("too many AuthorizationPolicies")

const annotationDryRun = "istio.io/dry-run"

// ReadAuthorizationPolicies reads the AuthorizationPolicies of some namespaces, which are the server's and the mesh's root
// namespace, each once. It asks the API server: they are looked at only when a client is kept out, and neither watched nor
// cached. Without Istio there are none. The error is one for which apierrors.IsForbidden is true where the right is lacking,
// or ErrTooManyPolicies.
func ReadAuthorizationPolicies(ctx context.Context, live client.Reader, namespaces ...string) ([]authz.Policy, error) {
	var found []authz.Policy
	sorted := slices.Sorted(slices.Values(namespaces))
	for _, namespace := range slices.Compact(sorted) {
		// Not as Istio's own types, which take a field that they do not know for none: a rule would say more than it does.
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(schema.GroupVersionKind{Group: "security.istio.io", Version: "v1", Kind: "AuthorizationPolicyList"})
		err := live.List(ctx, list, client.InNamespace(namespace), client.Limit(maxAuthorizationPolicies))
		switch {
		case meta.IsNoMatchError(err):
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("list authorizationpolicies of namespace %s: %w", namespace, err)
		case list.GetContinue() != "":
			return nil, fmt.Errorf("%w in namespace %s: more than %d", ErrTooManyPolicies, namespace, maxAuthorizationPolicies)
		}
		for _, object := range list.Items {
			found = append(found, authorizationPolicy(object))
		}
	}
	return found, nil
}

// authorizationSpec is the spec of an AuthorizationPolicy (istio.io/api security/v1beta1).
type authorizationSpec struct {
	Selector struct {
		MatchLabels map[string]string `json:"matchLabels"`
	} `json:"selector"`
	TargetRef  json.RawMessage   `json:"targetRef"`
	TargetRefs []json.RawMessage `json:"targetRefs"`
	Provider   json.RawMessage   `json:"provider"`
	Action     authz.Action      `json:"action"`
	Rules      []struct {
		From []struct {
			Source map[string][]string `json:"source"`
		} `json:"from"`
		To []struct {
			Operation map[string][]string `json:"operation"`
		} `json:"to"`
		When []struct {
			Key       string   `json:"key"`
			Values    []string `json:"values"`
			NotValues []string `json:"notValues"`
		} `json:"when"`
	} `json:"rules"`
}

// authorizationPolicy takes over what matters of an object. A field that is not known may change what the others mean.
func authorizationPolicy(object unstructured.Unstructured) authz.Policy {
	// As pilot/pkg/security/authz/builder (isDryRun) reads it: what is no boolean is false.
	dryRun, _ := strconv.ParseBool(object.GetAnnotations()[annotationDryRun])
	policy := authz.Policy{Namespace: object.GetNamespace(), Name: object.GetName(), DryRun: dryRun}
	encoded, err := json.Marshal(object.Object["spec"])
	var spec authorizationSpec
	if err == nil {
		decoder := json.NewDecoder(bytes.NewReader(encoded))
		decoder.DisallowUnknownFields()
		err = decoder.Decode(&spec)
	}
	if err != nil {
		policy.Unread = err.Error()
		return policy
	}
	policy.Selector, policy.Action = spec.Selector.MatchLabels, cmp.Or(spec.Action, authz.Allow)
	policy.TargetRefs = len(spec.TargetRef) > 0 || len(spec.TargetRefs) > 0
	for _, rule := range spec.Rules {
		var taken authz.Rule
		for _, from := range rule.From {
			taken.From = append(taken.From, conditions(from.Source, sourceKeys))
		}
		for _, to := range rule.To {
			taken.To = append(taken.To, conditions(to.Operation, operationKeys))
		}
		for _, when := range rule.When {
			taken.When = append(taken.When, authz.Condition{Key: when.Key, Values: when.Values, NotValues: when.NotValues})
		}
		policy.Rules = append(policy.Rules, taken)
	}
	return policy
}

// The attributes for which the fields of a source and of an operation are short (istio.io/istio
// pilot/pkg/security/authz/model/model.go, New).
var (
	sourceKeys = map[string]string{
		"principals": "source.principal", "requestPrincipals": "request.auth.principal", "namespaces": "source.namespace",
		"serviceAccounts": "source.serviceAccount", "trustDomains": "source.trustDomain", "ipBlocks": "source.ip", "remoteIpBlocks": "remote.ip",
	}
	operationKeys = map[string]string{
		"hosts": authz.KeyHost, "ports": "destination.port", "methods": authz.KeyMethod, "paths": authz.KeyPath,
	}
)

// conditions are those that fields stand for, such as principals and notPrincipals. A field that is not known stands for an
// attribute of its own name, which nobody knows either.
func conditions(fields map[string][]string, keys map[string]string) []authz.Condition {
	made := make([]authz.Condition, 0, len(fields))
	for field, values := range fields {
		condition := authz.Condition{Key: keys[field], Values: values}
		if rest, negated := strings.CutPrefix(field, "not"); negated && rest != "" {
			condition = authz.Condition{Key: keys[strings.ToLower(rest[:1])+rest[1:]], NotValues: values}
		}
		if condition.Key == "" {
			condition.Key = field
		}
		made = append(made, condition)
	}
	slices.SortFunc(made, func(a, b authz.Condition) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(len(a.Values), len(b.Values)))
	})
	return made
}
