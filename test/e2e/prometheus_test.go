//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"sigs.k8s.io/yaml"
)

// prometheus is a real Prometheus that scrapes the operator and evaluates the alerts.
type prometheus struct{ address string }

// scraping is how any Prometheus without an operator of its own is told to scrape (docs/metrics.md), every second.
const scraping = `
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [rules.yaml]
scrape_configs:
- job_name: httpsmeshprobe
  scheme: https
  honor_labels: true
  authorization: {credentials_file: token}
  tls_config: {insecure_skip_verify: true}
  static_configs: [{targets: ["%s"]}]
`

// startPrometheus starts one on the loopback device, with all it writes in a directory of the test's. It ends with the
// test, also when the test is killed.
func startPrometheus(t *testing.T, target, token string) *prometheus {
	t.Helper()
	program, err := filepath.Abs("../../bin/prometheus")
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	put(t, filepath.Join(directory, "token"), []byte(token))
	put(t, filepath.Join(directory, "rules.yaml"), alertRules(t))
	put(t, filepath.Join(directory, "prometheus.yml"), fmt.Appendf(nil, scraping, target))
	p := &prometheus{address: freeAddress(t)}
	command := exec.Command(program, "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address="+p.address, "--log.level=warn")
	command.Dir = directory
	var said bytes.Buffer
	command.Stdout, command.Stderr = &said, &said
	// The kernel ends it with the thread that started it.
	runtime.LockOSThread()
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		t.Fatalf("start %s: %v (hack/prometheus.sh fetches it)", program, err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		runtime.UnlockOSThread()
		if t.Failed() {
			t.Logf("prometheus said:\n%s", &said)
		}
	})
	return p
}

func put(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// alertRules is what config/prometheus/rules.yaml has for a Prometheus.
func alertRules(t *testing.T) []byte {
	t.Helper()
	var rule struct{ Spec any }
	decode(t, "rules.yaml", &rule)
	content, err := yaml.Marshal(rule.Spec)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// decode reads a file of config/prometheus.
func decode(t *testing.T, name string, into any) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("../../config/prometheus", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(content, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// api asks Prometheus' HTTP API, and decodes the data of its answer.
func (p *prometheus) api(path string, data any) error {
	response, err := http.Get("http://" + p.address + "/api/v1/" + path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s %s: %w", path, response.Status, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", path, answer.Error)
	}
	return json.Unmarshal(answer.Data, data)
}

// query returns the values of an expression now.
func (p *prometheus) query(expression string) ([]float64, error) {
	var data struct {
		Result []struct{ Value [2]any }
	}
	if err := p.api("query?query="+url.QueryEscape(expression), &data); err != nil {
		return nil, fmt.Errorf("%s: %w", expression, err)
	}
	var values []float64
	for _, sample := range data.Result {
		value, err := strconv.ParseFloat(fmt.Sprint(sample.Value[1]), 64)
		if err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	return values, nil
}

// hasData says whether an expression has a value now that is a number.
func (p *prometheus) hasData(expression string) error {
	values, err := p.query(expression)
	if err != nil {
		return err
	}
	for _, value := range values {
		if !math.IsNaN(value) {
			return nil
		}
	}
	return fmt.Errorf("%s returns no number: %v", expression, values)
}

// firing says whether an alert fires for a probe.
func (p *prometheus) firing(alert, namespace, name string) error {
	return p.hasData(fmt.Sprintf(`ALERTS{alertname=%q, alertstate="firing", namespace=%q, name=%q}`, alert, namespace, name))
}
