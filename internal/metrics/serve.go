package metrics

import (
	"crypto/tls"
	"fmt"
	"path/filepath"

	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// Off is the address that turns the metrics' server off.
const Off = "0"

// Serve are the options of a server that hands out metrics over HTTPS at address, to those whom the API server knows and
// lets get /metrics. Its certificate is tls.crt and tls.key in directory, read anew when they change; where directory is
// "" it signs one itself. An error says that what is in directory cannot be used.
func Serve(address, directory string) (metricsserver.Options, error) {
	if address == Off {
		return metricsserver.Options{BindAddress: Off}, nil
	}
	if directory != "" {
		// The server would quietly sign a certificate itself where there is none.
		if _, err := tls.LoadX509KeyPair(filepath.Join(directory, "tls.crt"), filepath.Join(directory, "tls.key")); err != nil {
			return metricsserver.Options{}, fmt.Errorf("certificate of the metrics' server, tls.crt and tls.key in --metrics-cert-path: %w", err)
		}
	}
	return metricsserver.Options{
		BindAddress:    address,
		SecureServing:  true,
		CertDir:        directory,
		FilterProvider: filters.WithAuthenticationAndAuthorization,
		// One scraper needs no HTTP/2, and whoever is not let in yet could reset its streams (CVE-2023-44487).
		TLSOpts: []func(*tls.Config){func(config *tls.Config) { config.NextProtos = []string{"http/1.1"} }},
	}, nil
}
