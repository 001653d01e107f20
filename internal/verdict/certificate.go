package verdict

import (
	"math"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/observation"
)

// OwnCertificate is the server's own certificate as a run saw it; nil where no path came so far.
func OwnCertificate(server Server, run observation.Run, now time.Time) *api.CertificateStatus {
	for _, name := range api.PathNames() {
		result := run.Results[string(name)]
		if result.Failed != nil || !server.owns(result.Seen) {
			continue
		}
		notAfter := metav1.NewTime(result.Seen.Leaf.NotAfter)
		left := int32(math.Floor(notAfter.Sub(now).Hours() / 24))
		return &api.CertificateStatus{SHA256: clip(result.Seen.Leaf.SHA256, maxName), NotAfter: &notAfter, DaysLeft: &left}
	}
	return nil
}
