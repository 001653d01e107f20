package page_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/page"
)

var update = flag.Bool("update", false, "write the golden files anew")

// statuses are probes as a lab handed them out (test/gitops).
const statuses = "../../test/gitops/testdata"

// labTime is when the lab ran.
var labTime = time.Date(2026, 11, 25, 1, 12, 30, 0, time.UTC)

func probeFrom(t *testing.T, name string) *api.HTTPSMeshProbe {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(statuses, name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	probe := &api.HTTPSMeshProbe{}
	if err := yaml.UnmarshalStrict(text, probe); err != nil {
		t.Fatal(err)
	}
	return probe
}

// Every state in which a lab has seen a probe, as the matrix shows it.
func TestMatrix(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(statuses, "*.yaml"))
	if err != nil || len(files) < 20 {
		t.Fatalf("%d statuses: %v", len(files), err)
	}
	var shown bytes.Buffer
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		probe := probeFrom(t, name)
		row := page.RowOf(probe, soonAfter(probe))
		shown.WriteString(name + "\n  " + row.Target + "; " + row.Mode + ", sidecar " + row.Sidecar + "\n")
		shown.WriteString("  ready: " + judged(row.Ready) + ": " + row.Ready.Message + "\n  policy: " + judged(row.Policy) + "\n")
		for _, cell := range row.Paths {
			shown.WriteString("  " + string(cell.Path) + ": " + string(cell.State) + " " + cell.Reason + ", expected " + quoted(cell.Expected) + ", saw " + quoted(cell.Observed))
			if cell.Earlier {
				shown.WriteString(", earlier")
			}
			shown.WriteString("\n")
		}
		for _, mark := range row.Marks {
			shown.WriteString("  mark " + mark.Word + ": " + mark.Message + "\n")
		}
	}
	compare(t, "matrix.txt", shown.Bytes())
}

func TestDetail(t *testing.T) {
	for _, name := range []string{"verified", "refuted", "suspended", "created"} {
		probe := probeFrom(t, name)
		encoded, err := json.MarshalIndent(page.DetailOf(probe, soonAfter(probe)), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		compare(t, "detail-"+name+".json", append(encoded, '\n'))
	}
}

// soonAfter is when a probe's verdict is of the present.
func soonAfter(probe *api.HTTPSMeshProbe) time.Time {
	if last := probe.Status.LastProbeTime; last != nil {
		return last.Add(10 * time.Second)
	}
	return labTime
}

func judged(j page.Judgement) string { return string(j.State) + " " + j.Reason }

func quoted(text string) string { return "'" + text + "'" }

func compare(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not as it was (-update writes it anew):\n%s", name, got)
	}
}
