package whatif

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/effective"
	"github.com/meshprobe/httpsmeshprobe/internal/explain"
	"github.com/meshprobe/httpsmeshprobe/internal/fixture"
	"github.com/meshprobe/httpsmeshprobe/internal/inventory"
	"github.com/meshprobe/httpsmeshprobe/internal/paths"
)

// Question is what is to be answered: what would be if the files' objects were applied and the removed ones deleted.
type Question struct {
	Files   []client.Object
	Removed []Reference
	// Below is the cluster over which the files are laid; nil for the files alone.
	Below client.Reader
	Place inventory.Place
	// Now is when the files would be applied.
	Now time.Time
}

// Forecast is what one probe's paths, or those to a Service that no probe is about, would see.
type Forecast struct {
	// Subject is "HTTPSMeshProbe namespace/name" or "Service namespace/name".
	Subject string `json:"subject"`
	// Declares says that the subject is a probe, so that there is something to hold the forecast against.
	Declares bool `json:"declares"`
	// Now is what is computed without the files; nil where the subject is not in the cluster, or there is no cluster.
	Now *explain.Explanation `json:"now,omitempty"`
	// Then is what would be computed; nil where the subject would be gone.
	Then *explain.Explanation `json:"then,omitempty"`
	// Undecided says that it depends on which of the files' objects is created first.
	Undecided bool `json:"undecided,omitempty"`
	// Notes say on what the forecast rests beside the files.
	Notes []string `json:"notes,omitempty"`
}

// Changes says whether the files change what the subject's paths are computed to see, or what is declared of them.
func (f Forecast) Changes() bool {
	if f.Now == nil || f.Then == nil {
		return true
	}
	if f.Now.Policy.Status != f.Then.Policy.Status {
		return true
	}
	return slices.ContainsFunc(paths.Names(), func(path api.PathName) bool {
		now, then := pathOf(f.Now, path), pathOf(f.Then, path)
		return now.Computed != then.Computed || now.Declared != then.Declared
	})
}

// Outcome is Match where all that is declared would be as computed, Mismatch where something would not, and Unknown where
// nobody can tell. A Service that no probe is about matches.
func (f Forecast) Outcome() api.Outcome {
	switch {
	case !f.Declares || f.Then == nil:
		return api.OutcomeMatch
	case f.Undecided:
		return api.OutcomeUnknown
	case f.Then.Policy.Status == metav1.ConditionFalse:
		return api.OutcomeMismatch
	}
	outcome := api.OutcomeMatch
	for _, path := range f.Then.Paths {
		switch path.Promised {
		case api.OutcomeMismatch:
			return api.OutcomeMismatch
		case api.OutcomeUnknown:
			outcome = api.OutcomeUnknown
		}
	}
	if f.Then.Policy.Status == metav1.ConditionUnknown {
		return api.OutcomeUnknown
	}
	return outcome
}

func pathOf(in *explain.Explanation, name api.PathName) explain.Path {
	for _, path := range in.Paths {
		if path.Name == name {
			return path
		}
	}
	return explain.Path{}
}

// Answer forecasts for the probes of the files and, with a cluster, for those of the namespaces that the files' policies
// are in, and for the Services with a TLS port there that no probe is about. They are in the order of their names, the
// probes first.
func Answer(ctx context.Context, q Question) ([]Forecast, error) {
	w, err := newWorld(ctx, q.Files, q.Removed, q.Below, q.Now)
	if err != nil {
		return nil, err
	}
	subjects, err := subjectsOf(ctx, q, w)
	if err != nil {
		return nil, err
	}
	forecasts := make([]Forecast, 0, len(subjects))
	for _, subject := range subjects {
		forecast, err := q.forecast(ctx, w, subject)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", subject.name, err)
		}
		forecasts = append(forecasts, forecast)
	}
	return forecasts, nil
}

func (q Question) forecast(ctx context.Context, w *world, s subject) (Forecast, error) {
	forecast := Forecast{Subject: s.name, Declares: s.declares}
	if s.now != nil {
		found, err := inventory.GatherPolicies(ctx, q.Below, s.now, q.Place)
		if err != nil {
			return forecast, err
		}
		now := explain.Of(found, q.Now)
		forecast.Now = &now
	}
	if s.then == nil {
		forecast.Notes = []string{"it would be gone"}
		return forecast, nil
	}
	view := *w
	view.claimed = s.then.Spec.Target.Sidecar == api.SidecarEnabled
	// What was observed says nothing of what would be.
	unjudged := s.then.DeepCopy()
	unjudged.Status = api.HTTPSMeshProbeStatus{}
	found, err := inventory.GatherPolicies(ctx, &view, unjudged, q.Place)
	if err != nil {
		return forecast, err
	}
	if s.inFiles && s.then.Spec.Target.Service == nil {
		// The operator's server would be made anew as the file says.
		found.Target.Endpoints, found.Target.Pods, found.Deployments = nil, nil, nil
	}
	then := explain.Of(found, q.Now)
	forecast.Then = &then
	forecast.Notes = view.notes(ctx, found)
	if rival := w.rivalry(found); rival != "" {
		forecast.Undecided = true
		forecast.Notes = append(forecast.Notes, undecided(rival))
	}
	return forecast, nil
}

// notes say on what a forecast rests beside the files.
func (w *world) notes(ctx context.Context, found *inventory.Inventory) []string {
	var notes []string
	planned := slices.ContainsFunc(found.Target.Endpoints, isPlanned)
	var namespace corev1.Namespace
	if err := w.Get(ctx, client.ObjectKey{Name: found.Target.Namespace}, &namespace); planned && apierrors.IsNotFound(err) {
		notes = append(notes, fmt.Sprintf("namespace %s is not among the files, so its labels are not known: its pods are taken to have the sidecar that is claimed", found.Target.Namespace))
	}
	return notes
}

// subject is a probe now and then, or a Service that no probe is about, dressed as a probe that declares nothing.
type subject struct {
	name      string
	declares  bool
	inFiles   bool
	now, then *api.HTTPSMeshProbe
}

func subjectsOf(ctx context.Context, q Question, w *world) ([]subject, error) {
	probes, err := probeSubjects(ctx, q, w)
	if err != nil {
		return nil, err
	}
	services, err := serviceSubjects(ctx, q, w, probes)
	return append(probes, services...), err
}

func probeSubjects(ctx context.Context, q Question, w *world) ([]subject, error) {
	found := map[string]*subject{}
	for _, namespace := range w.concerned(q.Place) {
		var then api.HTTPSMeshProbeList
		if err := w.List(ctx, &then, client.InNamespace(namespace)); err != nil {
			return nil, fmt.Errorf("list probes: %w", err)
		}
		for i := range then.Items {
			probe := &then.Items[i]
			name := "HTTPSMeshProbe " + probe.Namespace + "/" + probe.Name
			found[name] = &subject{name: name, declares: true, then: probe, inFiles: w.objects[referenceTo(probe)] != nil}
		}
		if q.Below == nil {
			continue
		}
		var now api.HTTPSMeshProbeList
		if err := q.Below.List(ctx, &now, client.InNamespace(namespace)); err != nil {
			return nil, fmt.Errorf("list probes: %w", err)
		}
		for i := range now.Items {
			probe := &now.Items[i]
			name := "HTTPSMeshProbe " + probe.Namespace + "/" + probe.Name
			if found[name] == nil {
				found[name] = &subject{name: name, declares: true}
			}
			found[name].now = probe
		}
	}
	return sortedSubjects(found), nil
}

func sortedSubjects(found map[string]*subject) []subject {
	all := make([]subject, 0, len(found))
	for _, s := range found {
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b subject) int { return strings.Compare(a.name, b.name) })
	return all
}

// concerned are the namespaces that the files can concern: that of every object; all of them, as "", where one is in
// Istio's namespace, whose policies are the mesh's.
func (w *world) concerned(place inventory.Place) []string {
	var namespaces []string
	for _, reference := range append(w.sorted(), sortedReferences(maps.Keys(w.removed))...) {
		namespace := reference.Namespace
		if reference.Kind == kindNamespace {
			namespace = reference.Name
		}
		if namespace == place.IstioNamespace {
			return []string{""}
		}
		if !slices.Contains(namespaces, namespace) {
			namespaces = append(namespaces, namespace)
		}
	}
	return namespaces
}

// serviceSubjects are the ports that speak TLS of Services that no probe is about.
func serviceSubjects(ctx context.Context, q Question, w *world, probes []subject) ([]subject, error) {
	probed := map[string]bool{}
	for _, s := range probes {
		for _, probe := range []*api.HTTPSMeshProbe{s.now, s.then} {
			if probe != nil {
				probed[inventory.TargetOf(probe).String()] = true
			}
		}
	}
	found := map[string]*subject{}
	collect := func(reader client.Reader, put func(*subject, *api.HTTPSMeshProbe)) error {
		for _, namespace := range w.concerned(q.Place) {
			var services corev1.ServiceList
			if err := reader.List(ctx, &services, client.InNamespace(namespace)); err != nil {
				return fmt.Errorf("list services: %w", err)
			}
			for _, service := range services.Items {
				port, ok := tlsPort(service)
				if !ok || probed[service.Namespace+"/"+service.Name] || service.Labels[fixture.LabelManagedBy] == fixture.ManagedBy {
					continue
				}
				name := "Service " + service.Namespace + "/" + service.Name
				if found[name] == nil {
					found[name] = &subject{name: name}
				}
				put(found[name], undeclared(service, port))
			}
		}
		return nil
	}
	if err := collect(w, func(s *subject, probe *api.HTTPSMeshProbe) { s.then = probe }); err != nil {
		return nil, err
	}
	if q.Below != nil {
		if err := collect(q.Below, func(s *subject, probe *api.HTTPSMeshProbe) { s.now = probe }); err != nil {
			return nil, err
		}
	}
	return sortedSubjects(found), nil
}

// tlsPort is the first port that speaks TLS of a Service that pods of the cluster stand behind.
func tlsPort(service corev1.Service) (int32, bool) {
	if service.Spec.Type == corev1.ServiceTypeExternalName || len(service.Spec.Selector) == 0 {
		return 0, false
	}
	for _, port := range service.Spec.Ports {
		if effective.SpeaksTLS(port) {
			return port.Port, true
		}
	}
	return 0, false
}

// undeclared is a probe of a Service that declares nothing but what is to be expected of a mesh: a sidecar. It has no mode,
// not even UNSET, which claims that the mode is inherited.
func undeclared(service corev1.Service, port int32) *api.HTTPSMeshProbe {
	probe := &api.HTTPSMeshProbe{}
	probe.Namespace, probe.Name = service.Namespace, service.Name
	probe.Spec.Target.Sidecar = api.SidecarEnabled
	probe.Spec.Target.Service = &api.TargetService{Name: service.Name, Port: intstr.FromInt32(port)}
	probe.Spec.MTLS = api.MTLS{ClientMode: api.ClientTLSUnset}
	return probe
}
