package prometheus

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const runbook = "https://github.com/meshprobe/httpsmeshprobe/blob/main/docs/alerts.md#"

type alert struct {
	Alert, Expr         string
	Labels, Annotations map[string]string
}

type group struct {
	Name  string
	Rules []alert
}

// spec is what a Prometheus reads of a PrometheusRule.
func spec(t *testing.T) []byte {
	t.Helper()
	var rule struct{ Spec any }
	decode(t, "rules.yaml", &rule)
	content, err := yaml.Marshal(rule.Spec)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func decode(t *testing.T, path string, into any) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(content, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func alerts(t *testing.T) (all []alert) {
	t.Helper()
	var rules struct{ Groups []group }
	if err := yaml.Unmarshal(spec(t), &rules); err != nil {
		t.Fatal(err)
	}
	for _, group := range rules.Groups {
		all = append(all, group.Rules...)
	}
	if len(all) < 10 {
		t.Fatalf("only %d alerts were read", len(all))
	}
	return all
}

// key tells two alerts of one name apart.
func (a alert) key() string { return a.Alert + " " + a.Labels["severity"] }

var heading = regexp.MustCompile(`(?m)^## (\S+)$`)

func TestEveryAlertSaysWhatToDo(t *testing.T) {
	content, err := os.ReadFile("../../docs/alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]bool{}
	for _, match := range heading.FindAllStringSubmatch(string(content), -1) {
		sections[strings.ToLower(match[1])] = false
	}
	for _, alert := range alerts(t) {
		if severity := alert.Labels["severity"]; severity != "warning" && severity != "critical" {
			t.Errorf("%s: severity is %q, want warning or critical", alert.Alert, severity)
		}
		for _, name := range []string{"summary", "description"} {
			if text := alert.Annotations[name]; len(text) < 20 || !strings.HasSuffix(text, ".") {
				t.Errorf("%s: the %s is no sentence: %q", alert.Alert, name, text)
			}
		}
		anchor, ours := strings.CutPrefix(alert.Annotations["runbook_url"], runbook)
		if _, there := sections[anchor]; !ours || !there || anchor != strings.ToLower(alert.Alert) {
			t.Errorf("%s: runbook_url %q leads to no section of its own in docs/alerts.md", alert.Alert, alert.Annotations["runbook_url"])
		}
		sections[anchor] = true
	}
	for section, used := range sections {
		if !used {
			t.Errorf("docs/alerts.md has a section %s, and no alert leads there", section)
		}
	}
}

// ruleTest is the part of promtool's tests that lists which alerts fire.
type ruleTest struct {
	Name  string
	Looks []struct {
		Expr    string
		Samples []struct{ Labels string } `json:"exp_samples"`
	} `json:"promql_expr_test"`
}

var (
	alertName = regexp.MustCompile(`alertname="([^"]+)"`)
	severity  = regexp.MustCompile(`severity="([^"]+)"`)
)

// In one and the same test every alert has to fire at one moment and to be silent at another.
func TestEveryAlertIsTestedBothWays(t *testing.T) {
	tested := map[string]bool{}
	for _, file := range testFiles(t) {
		var content struct{ Tests []ruleTest }
		decode(t, file, &content)
		for _, test := range content.Tests {
			fired := map[string]int{}
			for _, look := range test.Looks {
				if !strings.Contains(look.Expr, `ALERTS{alertstate="firing"}`) {
					t.Errorf("%s, %s: %s does not ask for all alerts that fire", file, test.Name, look.Expr)
				}
				for _, sample := range look.Samples {
					fired[alertName.FindStringSubmatch(sample.Labels)[1]+" "+severity.FindStringSubmatch(sample.Labels)[1]]++
				}
			}
			for alert, times := range fired {
				tested[alert] = tested[alert] || times < len(test.Looks)
			}
		}
	}
	for _, alert := range alerts(t) {
		if !tested[alert.key()] {
			t.Errorf("no test shows %s firing at one moment and silent at another", alert.key())
		}
	}
}

func testFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("tests/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in tests: %v", err)
	}
	return files
}

// promtool's own checks and tests. hack/prometheus.sh fetches it.
func TestPromtool(t *testing.T) {
	promtool := os.Getenv("PROMTOOL")
	if promtool == "" {
		t.Skip("PROMTOOL names no promtool: make test-alerts fetches one")
	}
	directory := t.TempDir()
	put(t, filepath.Join(directory, "rules.yaml"), spec(t))
	arguments := [][]string{{"check", "rules", "--lint=all", "--lint-fatal", "rules.yaml"}}
	for _, file := range testFiles(t) {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(directory, filepath.Base(file)), content)
		arguments = append(arguments, []string{"test", "rules", filepath.Base(file)})
	}
	for _, these := range arguments {
		t.Run(fmt.Sprint(these[0], " ", these[len(these)-1]), func(t *testing.T) {
			command := exec.CommandContext(t.Context(), promtool, these...)
			command.Dir = directory
			if said, err := command.CombinedOutput(); err != nil {
				t.Errorf("promtool %s: %v\n%s", strings.Join(these, " "), err, said)
			}
		})
	}
}

func put(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
