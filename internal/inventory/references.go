package inventory

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// Reference is the data of an object that the spec names.
type Reference struct {
	// Object names the object, such as "Secret shop/ca"; "" where the spec names none.
	Object string
	// Name is the object's name alone, and Data what it holds.
	Name string
	Data map[string][]byte
	// Missing says that it does not exist, and Forbidden that the operator may not read it.
	Missing, Forbidden bool
}

// readReferences asks the API server itself: the operator watches no Secret, and no ConfigMap that is not its own.
func (i *Inventory) readReferences(ctx context.Context, live client.Reader) (err error) {
	if ca := i.Probe.Spec.Target.CA; ca != nil && ca.ConfigMap != nil {
		i.CA, err = i.readConfigMap(ctx, live, *ca.ConfigMap)
	} else if ca != nil && ca.Secret != nil {
		i.CA, err = i.readSecret(ctx, live, ca.Secret.Name)
	}
	if err != nil {
		return err
	}
	if certificate := i.Probe.Spec.Target.Certificate; certificate != nil {
		i.Certificate, err = i.readSecret(ctx, live, certificate.SecretName)
	}
	return err
}

func (i *Inventory) readConfigMap(ctx context.Context, live client.Reader, named api.KeyReference) (Reference, error) {
	var configMap corev1.ConfigMap
	reference, err := i.read(ctx, live, "ConfigMap", named.Name, &configMap)
	reference.Data = map[string][]byte{}
	for key, value := range configMap.Data {
		reference.Data[key] = []byte(value)
	}
	return reference, err
}

func (i *Inventory) readSecret(ctx context.Context, live client.Reader, name string) (Reference, error) {
	var secret corev1.Secret
	reference, err := i.read(ctx, live, "Secret", name, &secret)
	reference.Data = secret.Data
	return reference, err
}

func (i *Inventory) read(ctx context.Context, live client.Reader, kind, name string, object client.Object) (Reference, error) {
	reference := Reference{Object: fmt.Sprintf("%s %s/%s", kind, i.Probe.Namespace, name), Name: name}
	err := live.Get(ctx, types.NamespacedName{Namespace: i.Probe.Namespace, Name: name}, object)
	switch {
	case apierrors.IsNotFound(err):
		reference.Missing = true
	case apierrors.IsForbidden(err):
		reference.Forbidden = true
	case err != nil:
		return reference, fmt.Errorf("get %s: %w", reference.Object, err)
	}
	return reference, nil
}
