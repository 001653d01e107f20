package versions

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestNodeModuleIsAtThesePins(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("..", "..", "node", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	module := string(content)
	for _, line := range []string{
		"k8s.io/kubernetes v" + Kubernetes,
		"k8s.io/component-base v" + KubernetesLibraries,
		"istio.io/istio " + IstioModule,
		"github.com/coredns/coredns v" + CoreDNS,
	} {
		if !strings.Contains(module, "\t"+line+"\n") {
			t.Errorf("node/go.mod does not require %q, which versions.go pins", line)
		}
	}
	// Kubernetes' own go.mod points its libraries at directories of its source
	// tree; each needs a replacement, and a forgotten one shows at the next release.
	for _, replace := range regexp.MustCompile(`(?m)^\t(\S+) => (\S+) (\S+)$`).FindAllStringSubmatch(module, -1) {
		if replace[1] != replace[2] || replace[3] != "v"+KubernetesLibraries {
			t.Errorf("node/go.mod replaces %s by %s %s, expected the same at v%s", replace[1], replace[2], replace[3], KubernetesLibraries)
		}
	}
}

func TestKubernetesAndItsLibrariesAreOneRelease(t *testing.T) {
	if strings.TrimPrefix(Kubernetes, "1.") != strings.TrimPrefix(KubernetesLibraries, "0.") {
		t.Errorf("Kubernetes is %s and its libraries are %s", Kubernetes, KubernetesLibraries)
	}
}

func TestImagesPoseAsNobodyElses(t *testing.T) {
	for _, image := range []string{PauseImage, NginxImage, CurlImage, PilotImage, ProxyImage, ProxyImageBare, OperatorImage} {
		if !strings.HasPrefix(image, ImageNamePrefix) {
			t.Errorf("the image name %s does not begin with %s", image, ImageNamePrefix)
		}
		if strings.HasSuffix(image, ":latest") {
			t.Errorf("the kubelet would look for %s in a registry, because of its tag", image)
		}
	}
}
