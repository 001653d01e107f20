//go:build linux

package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	networkingapi "istio.io/api/networking/v1beta1"
	networkingv1beta1 "istio.io/client-go/pkg/apis/networking/v1beta1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// Every query of the alerts and of the dashboard is asked of a real Prometheus that scrapes the operator, and returns data.
func TestMetrics(t *testing.T) {
	ns := namespace(t)
	target := metricsAddress(t)
	reader, stranger := tokenOf(t, ns, "reader"), tokenOf(t, ns, "stranger")
	letGetMetrics(t, ns, "reader")
	refusesStrangers(t, target, stranger)

	// The namespace's policy is strict at first, and then it is not, which costs the claim its truth.
	mode := peerAuthentication(ns, "default", nil, strict)
	createPolicy(t, mode)
	inherit := probe(t, ns, "inherit", api.SidecarEnabled, unset)
	claim := newProbe(ns, "claim", api.SidecarEnabled, strict)
	claim.Spec.Target.Service = &api.TargetService{Name: "inherit-nginx"}
	createProbe(t, claim)
	plain := probe(t, ns, "plain", api.SidecarEnabled, permissive)
	sendPlaintext(t, ns, "plain-nginx")
	suspended := newProbe(ns, "suspended", api.SidecarEnabled, strict)
	suspended.Spec.Suspend = true
	createProbe(t, suspended)
	stalled := newProbe(ns, "stalled", api.SidecarEnabled, strict)
	stalled.Spec.Target.Service = &api.TargetService{Name: "nowhere"}
	createProbe(t, stalled)

	p := startPrometheus(t, target, reader)
	await(t, "the first scrape", func() error { return p.hasData(`up == 1`) })
	awaitCondition(t, inherit, api.ConditionReady, metav1.ConditionTrue)
	awaitCondition(t, claim, api.ConditionReady, metav1.ConditionTrue)
	awaitCondition(t, plain, api.ConditionSleepVerified, metav1.ConditionFalse)
	await(t, "a scrape before any change", func() error {
		return p.hasData(fmt.Sprintf(`httpsmeshprobe_policy_changes_total{namespace=%q, name="inherit", settled="true"} == 0`, ns))
	})
	changePolicy(t, peerAuthentication(ns, "default", nil, permissive))
	awaitCondition(t, claim, api.ConditionOutsiderVerified, metav1.ConditionFalse)

	for name, alert := range map[string]string{"claim": "HTTPSMeshProbeMTLSNotEnforced", "plain": "HTTPSMeshProbePlaintextInMesh"} {
		await(t, alert, func() error { return p.firing(alert, ns, name) })
	}
	rulesAreEvaluated(t, p)
	for _, query := range append(alertQueries(t, ns), dashboardQueries(t, ns)...) {
		await(t, query, func() error { return p.hasData(query) })
	}

	if err := lab.Delete(t.Context(), stalled); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of a deleted probe's series", func() error {
		values, err := p.query(fmt.Sprintf(`{namespace=%q, name="stalled"}`, ns))
		if err == nil && len(values) > 0 {
			err = fmt.Errorf("%d are left", len(values))
		}
		return err
	})
}

// metricsAddress is where the operator's metrics are, as host:port.
func metricsAddress(t *testing.T) string {
	t.Helper()
	service, err := lab.clientset.CoreV1().Services("httpsmeshprobe-system").Get(t.Context(), "httpsmeshprobe-metrics", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s:%d", service.Spec.ClusterIP, service.Spec.Ports[0].Port)
}

// tokenOf makes a service account and returns a token of it.
func tokenOf(t *testing.T, ns, name string) string {
	t.Helper()
	accounts := lab.clientset.CoreV1().ServiceAccounts(ns)
	if _, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	request, err := accounts.CreateToken(t.Context(), name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return request.Status.Token
}

func letGetMetrics(t *testing.T, ns, account string) {
	t.Helper()
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "metrics-of-" + ns},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "httpsmeshprobe-metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: ns, Name: account}},
	}
	if err := lab.Create(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Delete(context.Background(), binding); err != nil {
			t.Error(err)
		}
	})
}

// controller-runtime answers 500 where the API server does not know a token, and 401 where there is none.
func refusesStrangers(t *testing.T, target, stranger string) {
	t.Helper()
	for _, one := range []struct {
		who, token string
		want       int
	}{{"nobody", "", 401}, {"a made-up token", "made-up", 500}, {"an account without the role", stranger, 403}} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+target+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		if one.token != "" {
			request.Header.Set("Authorization", "Bearer "+one.token)
		}
		// The operator has signed its certificate itself.
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
		response, err := (&http.Client{Transport: transport}).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		said, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != one.want || strings.Contains(string(said), "httpsmeshprobe_") {
			t.Errorf("metrics for %s: got %d %.80q, want %d", one.who, response.StatusCode, said, one.want)
		}
	}
	if response, err := http.Get("http://" + target + "/metrics"); err == nil {
		defer response.Body.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("metrics without TLS: got %s", response.Status)
		}
	}
}

// sendPlaintext lets clients' sidecars send to a Service as it is.
func sendPlaintext(t *testing.T, ns, service string) {
	t.Helper()
	rule := &networkingv1beta1.DestinationRule{}
	rule.Namespace, rule.Name = ns, "plaintext"
	rule.Spec.Host = service + "." + ns + ".svc.cluster.local"
	rule.Spec.TrafficPolicy = &networkingapi.TrafficPolicy{Tls: &networkingapi.ClientTLSSettings{Mode: networkingapi.ClientTLSSettings_DISABLE}}
	if err := lab.Create(t.Context(), rule); err != nil {
		t.Fatal(err)
	}
}

// rulesAreEvaluated checks that Prometheus can evaluate every alert's expression.
func rulesAreEvaluated(t *testing.T, p *prometheus) {
	t.Helper()
	await(t, "the evaluation of every alert", func() error {
		var data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
		if err := p.api("rules", &data); err != nil {
			return err
		}
		rules := 0
		for _, group := range data.Groups {
			for _, rule := range group.Rules {
				if rule.Health != "ok" {
					return fmt.Errorf("%s is %s: %s", rule.Name, rule.Health, rule.LastError)
				}
				rules++
			}
		}
		if rules == 0 {
			return fmt.Errorf("no rule was read")
		}
		return nil
	})
}

// selector is what an expression asks for, without range.
var selector = regexp.MustCompile(`\b(?:httpsmeshprobe|controller_runtime|leader_election|process)_[a-z_]+(?:\{[^}]*\})?`)

// alertQueries are the selectors of all alerts: an alert's own expression returns data only while it fires, and what it
// looks at has to be there always, or it would stay silent for that alone.
func alertQueries(t *testing.T, ns string) (queries []string) {
	t.Helper()
	var rule struct {
		Spec struct {
			Groups []struct {
				Rules []struct{ Alert, Expr string }
			}
		}
	}
	decode(t, "rules.yaml", &rule)
	for _, group := range rule.Spec.Groups {
		for _, alert := range group.Rules {
			selectors := selector.FindAllString(alert.Expr, -1)
			if len(selectors) == 0 {
				t.Errorf("no selector was found in %s of %s", alert.Expr, alert.Alert)
			}
			for _, one := range selectors {
				queries = append(queries, ofNamespace(one, ns))
			}
		}
	}
	return queries
}

// unseenReasons are matchers of reasons that no probe of this test comes to. A reason has a series only while it is one; that
// the alert fires by it is for promtool's tests (config/prometheus/tests).
var unseenReasons = []string{`, reason="NotTLS"`, `, reason="LedElsewhere"`}

// ofNamespace narrows a selector of probes' series to the test's.
func ofNamespace(selector, ns string) string {
	for _, reason := range unseenReasons {
		selector = strings.ReplaceAll(selector, reason, "")
	}
	name, rest, labelled := strings.Cut(selector, "{")
	switch {
	case labelled && strings.HasPrefix(name, "httpsmeshprobe_condition"):
		return fmt.Sprintf("%s{namespace=%q, %s", name, ns, rest)
	default:
		return selector
	}
}

// dashboardQueries are all queries of the dashboard as Grafana asks them, and their selectors: what ends with "or
// vector(0)" returns data whatever it looks at.
func dashboardQueries(t *testing.T, ns string) (queries []string) {
	t.Helper()
	var board struct {
		Templating struct {
			List []struct{ Name, Definition string }
		}
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	decode(t, "httpsmeshprobe.json", &board)
	variables := strings.NewReplacer("$__rate_interval", "1m", "$__range", "10m", "$namespace", ns, "$name", ".*")
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			query := variables.Replace(target.Expr)
			if strings.Contains(query, "$") {
				t.Errorf("panel %s asks with a variable that this test does not know: %s", panel.Title, query)
			}
			queries = append(append(queries, query), selector.FindAllString(query, -1)...)
		}
	}
	values := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)
	for _, variable := range board.Templating.List {
		if match := values.FindStringSubmatch(variable.Definition); match != nil {
			queries = append(queries, fmt.Sprintf("count by (%s) (%s)", match[2], variables.Replace(match[1])))
		}
	}
	return queries
}
