package oracle

import (
	"os"
	"strings"
	"testing"
)

// TestIstioIsTheLabs holds the libraries against those of the lab, so that what is shown here is shown of the Istio that
// runs there.
func TestIstioIsTheLabs(t *testing.T) {
	ours, labs := versions(t, "go.mod"), versions(t, "../../hack/lab/node/go.mod")
	if ours["istio.io/istio"] == "" {
		t.Errorf("Istio is none of %v", ours)
	}
	for library, version := range ours {
		if lab, ok := labs[library]; ok && lab != version {
			t.Errorf("%s is %s here and %s in the lab", library, version, lab)
		}
	}
}

// versions reads the modules that a go.mod requires, with what it replaces them by.
func versions(t *testing.T, file string) map[string]string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	required, replaced := map[string]string{}, map[string]string{}
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(strings.TrimPrefix(line, "require "))
		switch {
		case len(fields) == 4 && fields[1] == "=>":
			replaced[fields[0]] = fields[3]
		case len(fields) > 1 && strings.HasPrefix(fields[1], "v"):
			required[fields[0]] = fields[1]
		}
	}
	for library, version := range replaced {
		if required[library] != "" {
			required[library] = version
		}
	}
	return required
}
