// Package whatif answers what the paths of probes would see if the objects in some files were applied: by the files
// alone, or over a cluster.
package whatif

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

const (
	groupSecurity   = "security.istio.io"
	groupNetworking = "networking.istio.io"
	groupApps       = "apps"
)

// Decode turns an object from a file into one that policies are computed from; nil where it is none of these. What the
// API server would refuse in probes and policies is refused here too, as far as it bears on the answer.
func Decode(object *unstructured.Unstructured) (client.Object, error) {
	kind := object.GroupVersionKind()
	switch kind.Group + "/" + kind.Kind {
	case api.GroupVersion.Group + "/" + api.Kind:
		return decodeProbe(object)
	case groupSecurity + "/PeerAuthentication":
		policy := &securityv1.PeerAuthentication{}
		return policy, decodePolicy(object, policy, &policy.Spec)
	case groupNetworking + "/DestinationRule":
		rule := &networkingv1.DestinationRule{}
		return rule, decodePolicy(object, rule, &rule.Spec)
	case "/Service":
		return decoded(object, &corev1.Service{})
	case "/Pod":
		return decoded(object, &corev1.Pod{})
	case "/Namespace":
		return decoded(object, &corev1.Namespace{})
	case "/ConfigMap":
		return decoded(object, &corev1.ConfigMap{})
	case groupApps + "/Deployment":
		return decoded(object, &appsv1.Deployment{})
	case groupApps + "/StatefulSet":
		return decoded(object, &appsv1.StatefulSet{})
	case groupApps + "/DaemonSet":
		return decoded(object, &appsv1.DaemonSet{})
	default:
		return nil, nil
	}
}

func decoded[T client.Object](object *unstructured.Unstructured, into T) (client.Object, error) {
	encoded, err := object.MarshalJSON()
	if err != nil {
		return nil, err
	}
	return into, json.Unmarshal(encoded, into)
}

// decodePolicy reads a spec of Istio's strictly: its own decoder would take a misspelt field for none.
func decodePolicy(object *unstructured.Unstructured, into metav1.Object, spec proto.Message) error {
	content, err := json.Marshal(object.Object["spec"])
	if err != nil {
		return err
	}
	into.SetNamespace(object.GetNamespace())
	into.SetName(object.GetName())
	into.SetLabels(object.GetLabels())
	if string(content) == "null" {
		return nil
	}
	if err := protojson.Unmarshal(content, spec); err != nil {
		// The line that the decoder speaks of is one of content, not of the file.
		_, complaint, _ := strings.Cut(err.Error(), "): ")
		return fmt.Errorf("spec: %s", complaint)
	}
	return nil
}

// decodeProbe reads a probe strictly, and gives it the defaults that bear on the answer.
func decodeProbe(object *unstructured.Unstructured) (*api.HTTPSMeshProbe, error) {
	encoded, err := object.MarshalJSON()
	if err != nil {
		return nil, err
	}
	probe := &api.HTTPSMeshProbe{}
	decoder := json.NewDecoder(bytes.NewReader(encoded))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(probe); err != nil {
		return nil, err
	}
	probe.Status = api.HTTPSMeshProbeStatus{}
	spec := &probe.Spec
	for _, field := range []struct {
		path, value string
		allowed     []string
		unset       func()
	}{
		{"spec.target.sidecar", string(spec.Target.Sidecar), []string{string(api.SidecarEnabled), string(api.SidecarDisabled)}, nil},
		{"spec.mtls.mode", string(spec.MTLS.Mode),
			[]string{string(api.MTLSUnset), string(api.MTLSDisable), string(api.MTLSPermissive), string(api.MTLSStrict)},
			func() { spec.MTLS.Mode = api.MTLSUnset }},
		{"spec.mtls.clientMode", string(spec.MTLS.ClientMode),
			[]string{string(api.ClientTLSUnset), string(api.ClientTLSDisable), string(api.ClientTLSIstioMutual), string(api.ClientTLSSimple)},
			func() { spec.MTLS.ClientMode = api.ClientTLSUnset }},
	} {
		switch {
		case field.value == "" && field.unset != nil:
			field.unset()
		case !slices.Contains(field.allowed, field.value):
			return nil, fmt.Errorf("%s is %q and must be one of %v", field.path, field.value, field.allowed)
		}
	}
	if service := spec.Target.Service; service != nil && service.Port == (intstr.IntOrString{}) {
		service.Port = intstr.FromInt32(defaultPort)
	}
	return probe, nil
}

// defaultPort is that of spec.target.service.port (api/v1alpha1).
const defaultPort = 443
