// Package v1alpha1 is the API of meshprobe.dev, version v1alpha1: the HTTPSMeshProbe resource, and the condition
// types and reasons that appear in its status.
//
// +kubebuilder:object:generate=true
// +groupName=meshprobe.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of every type in this package.
var GroupVersion = schema.GroupVersion{Group: "meshprobe.dev", Version: "v1alpha1"}

// Kind is the kind of the resource, as owner references and events spell it.
const Kind = "HTTPSMeshProbe"

var schemeBuilder = runtime.NewSchemeBuilder(addTypes)

// AddToScheme registers the types of this package.
var AddToScheme = schemeBuilder.AddToScheme

func addTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &HTTPSMeshProbe{}, &HTTPSMeshProbeList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
