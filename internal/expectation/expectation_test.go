package expectation_test

import (
	"strings"
	"testing"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/expectation"
)

// What curl met on a real mesh, row by row, without a DestinationRule (docs/concepts.md): the words are sleep,
// istio-proxy and outsider.
var measured = []struct {
	sidecar api.Sidecar
	mode    api.MTLSMode
	meets   string
	because string
}{
	{api.SidecarDisabled, api.MTLSUnset, "200 200 200", "no sidecar"},
	{api.SidecarDisabled, api.MTLSDisable, "200 200 200", "no sidecar"},
	// The mode that a namespace or mesh sets does not reach a server without sidecar.
	{api.SidecarDisabled, api.MTLSPermissive, "200 200 200", "no sidecar"},
	{api.SidecarDisabled, api.MTLSStrict, "200 200 200", "no sidecar"},
	{api.SidecarEnabled, api.MTLSDisable, "200 200 200", "DISABLE"},
	{api.SidecarEnabled, api.MTLSPermissive, "200 200 200", "PERMISSIVE accepts"},
	{api.SidecarEnabled, api.MTLSStrict, "200 refused refused", "STRICT"},
}

func TestEveryPathMeetsWhatWasMeasured(t *testing.T) {
	for _, row := range measured {
		expectations := expectation.For(row.sidecar, row.mode)
		var meets []string
		for _, path := range api.PathNames() {
			expected, ok := expectations[path]
			if !ok {
				t.Errorf("%s %s: nothing is expected of %s", row.sidecar, row.mode, path)
			}
			if !strings.Contains(expected.Why, row.because) {
				t.Errorf("%s %s: %s is explained with %q, which lacks %q", row.sidecar, row.mode, path, expected.Why, row.because)
			}
			meets = append(meets, expected.String())
		}
		if got := strings.Join(meets, " "); got != row.meets {
			t.Errorf("%s %s: %s, want %s", row.sidecar, row.mode, got, row.meets)
		}
		if len(expectations) != len(api.PathNames()) {
			t.Errorf("%s %s: %d expectations for %d paths", row.sidecar, row.mode, len(expectations), len(api.PathNames()))
		}
	}
}

// The path sleep is the positive control of the others' refusals, so it is never to be refused itself.
func TestThePositiveControlIsNeverToBeRefused(t *testing.T) {
	for _, row := range measured {
		if expectation.For(row.sidecar, row.mode)[api.PathSleep].Refused {
			t.Errorf("%s %s: sleep is to be refused", row.sidecar, row.mode)
		}
	}
}

func TestString(t *testing.T) {
	if got := (expectation.Expectation{Refused: true}).String(); got != "refused" {
		t.Errorf("a refusal is spelled %q", got)
	}
	if got := (expectation.Expectation{}).String(); got != "200" {
		t.Errorf("an answer is spelled %q", got)
	}
}

// Under PERMISSIVE all paths are answered, for two reasons.
func TestPermissiveAcceptsBoth(t *testing.T) {
	expectations := expectation.For(api.SidecarEnabled, api.MTLSPermissive)
	for path, because := range map[api.PathName]string{
		api.PathSleep: "the mutual TLS of the client's sidecar", api.PathIstioProxy: "without a certificate", api.PathOutsider: "without a certificate",
	} {
		if why := expectations[path].Why; !strings.Contains(why, because) {
			t.Errorf("%s is explained with %q, which lacks %q", path, why, because)
		}
	}
}
