package verdict

import (
	"math"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
)

// OwnCertificate is the server's own certificate as a run saw it; nil where no path came so far. Where nothing is known of
// it beforehand, a request that the client's Envoy led elsewhere did not see it.
func (c Criteria) OwnCertificate(run observation.Run, now time.Time) *api.CertificateStatus {
	for _, path := range paths.All() {
		result := run.Results[string(path.Name)]
		led := path.ThroughMesh && !c.Server.known() && c.sentTo(result.Seen).answer != api.AnswerShown
		if result.Failed != nil || led || !c.Server.owns(result.Seen) {
			continue
		}
		status := &api.CertificateStatus{SHA256: clip(result.Seen.Leaf.SHA256, maxName)}
		// A certificate may end in the year 1. The API server would refuse the whole status for a time that looks like none.
		if notAfter := metav1.NewTime(result.Seen.Leaf.NotAfter); !notAfter.IsZero() {
			left := int32(max(math.Floor(notAfter.Sub(now).Hours()/24), math.MinInt32))
			status.NotAfter, status.DaysLeft = &notAfter, &left
		}
		return status
	}
	return nil
}
