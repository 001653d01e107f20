package plugin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/report"
)

const (
	// labelManagedBy marks probes of this program, so that what was left by a program that was killed can be found.
	labelManagedBy = "app.kubernetes.io/managed-by"
	fieldOwner     = "kubectl-meshprobe"

	// createTime and removeTime bound what goes on after an interrupt.
	createTime = 10 * time.Second
	removeTime = 10 * time.Second

	suffixLength = 5
	// longestName is the API's limit for a probe's name.
	longestName = 52
	// takenPrefix is not allowed at the beginning of a probe's name.
	takenPrefix = "meshprobe-"
)

// oneShot is a set of probes that are there for one verdict each.
type oneShot struct {
	session *session
	cluster client.WithWatch
	shots   []shot
}

// shot is one of them: what was asked for, and what stands for it in the cluster.
type shot struct {
	document document
	probe    *api.HTTPSMeshProbe
	// present says that the probe may be in the cluster.
	present bool
}

// name is what the person calls it.
func (s shot) name() string {
	return s.document.probe.Name
}

// prepare has the API server check every probe before the first is created.
func (o *oneShot) prepare(command *cobra.Command, documents []document) error {
	namespace, err := o.session.namespace()
	if err != nil {
		return err
	}
	checked := map[string]bool{}
	for _, document := range documents {
		own := document.probe.Namespace
		if own != "" && own != namespace && command.Flag("namespace").Changed {
			return failure("%s: metadata.namespace is %s, and --namespace is %s", document.place, own, namespace)
		}
		if document.probe.Name == "" {
			document.probe.Name = strings.TrimSuffix(document.probe.GenerateName, "-")
		}
		if document.probe.Name == "" {
			return failure("%s: metadata.name is missing", document.place)
		}
		if own == "" {
			own = namespace
		}
		if !checked[own] {
			if err := requireNamespace(command.Context(), o.cluster, own); err != nil {
				return err
			}
			checked[own] = true
		}
		o.shots = append(o.shots, shot{document: document, probe: standIn(document.probe, own)})
	}
	for _, shot := range o.shots {
		if err := o.cluster.Create(command.Context(), shot.probe.DeepCopy(), client.DryRunAll, client.FieldOwner(fieldOwner)); err != nil {
			return o.refused(shot, err)
		}
	}
	return nil
}

// standIn is a probe with the same spec under a name of its own. Labels and annotations stay behind: they may make it look
// like somebody's, such as Argo CD's, who would then remove it.
func standIn(probe *api.HTTPSMeshProbe, namespace string) *api.HTTPSMeshProbe {
	copied := &api.HTTPSMeshProbe{Spec: *probe.Spec.DeepCopy()}
	base := probe.Name
	if strings.HasPrefix(base, takenPrefix) {
		base = "run-" + base
	}
	base = base[:min(len(base), longestName-suffixLength-1)]
	copied.Namespace, copied.Name = namespace, base+"-"+rand.String(suffixLength)
	copied.Labels = map[string]string{labelManagedBy: fieldOwner}
	copied.Status.ObservedGeneration = -1
	return copied
}

// refused says what the API server has against a probe, and where that was declared.
func (o *oneShot) refused(shot shot, err error) error {
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) || !apierrors.IsInvalid(err) || answer.Status().Details == nil {
		return err
	}
	var problems []string
	for _, cause := range answer.Status().Details.Causes {
		switch {
		case strings.Contains(cause.Message, "some validation rules were not checked"):
		case cause.Field == "" || cause.Field == "<nil>" || cause.Field == "null":
			// Rules of the API that are about no single field (CEL) name none.
			problems = append(problems, strings.TrimPrefix(cause.Message, "Invalid value: "))
		default:
			problems = append(problems, cause.Field+": "+cause.Message)
		}
	}
	return failure("%s: %s", shot.document.place, oneLine(strings.Join(problems, "; ")))
}

// create creates the probes. A request that is under way is not interrupted, or nobody knew whether there is a probe.
func (o *oneShot) create(ctx context.Context) error {
	for i := range o.shots {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		shot := &o.shots[i]
		shot.present = true
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), createTime)
		err := o.cluster.Create(bounded, shot.probe, client.FieldOwner(fieldOwner))
		cancel()
		// After a refusal there is none of ours; after a broken connection, or an error within the API server, there may be.
		var answer apierrors.APIStatus
		if errors.As(err, &answer) && answer.Status().Code < http.StatusInternalServerError {
			shot.present = false
		}
		if err != nil {
			return o.refused(*shot, err)
		}
	}
	return nil
}

// remove deletes what was created. It has a time of its own, because ctx may have ended, and stops when the person asks a
// second time; the error then names what is left.
func (o *oneShot) remove(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTime)
	defer cancel()
	go func() {
		select {
		case <-o.session.Hurry:
			cancel()
		case <-bounded.Done():
		}
	}()
	var left []string
	var trouble error
	for _, shot := range o.shots {
		if !shot.present {
			continue
		}
		if o.hurried() {
			trouble = errHurried
		} else if trouble = o.delete(bounded, shot.probe); trouble == nil {
			continue
		}
		left = append(left, fmt.Sprintf("kubectl delete hmp %s -n %s", shot.probe.Name, shot.probe.Namespace))
	}
	if len(left) == 0 {
		return nil
	}
	if o.hurried() {
		trouble = errHurried
	}
	return failure("left behind (%s); remove with: %s", o.session.sentence(trouble), strings.Join(left, "; "))
}

var errHurried = errors.New("interrupted again")

// hurried says whether the person has asked a second time to end.
func (o *oneShot) hurried() bool {
	select {
	case <-o.session.Hurry:
		return true
	default:
		return false
	}
}

// delete deletes the very probe that was created, and none that has its name by now.
func (o *oneShot) delete(ctx context.Context, probe *api.HTTPSMeshProbe) error {
	options := []client.DeleteOption{client.PropagationPolicy(metav1.DeletePropagationBackground)}
	if uid := probe.UID; uid != "" {
		options = append(options, client.Preconditions{UID: &uid})
	}
	err := o.cluster.Delete(ctx, probe.DeepCopy(), options...)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

func (o *oneShot) tellKept() {
	for _, shot := range o.shots {
		fmt.Fprintf(o.session.ErrOut, "kept: kubectl get hmp %s -n %s\n", shot.probe.Name, shot.probe.Namespace)
	}
}

func (o *oneShot) awaited() []*awaited {
	var all []*awaited
	for _, shot := range o.shots {
		all = append(all, &awaited{
			name: shot.name(), probe: shot.probe,
			settled: func(probe *api.HTTPSMeshProbe) bool { return report.Settle(probe).Final },
			asked:   func(*api.HTTPSMeshProbe) bool { return true },
			heard:   func(probe *api.HTTPSMeshProbe) bool { return probe.Status.ObservedGeneration >= 0 },
			silence: operatorSilence, silent: noOperator(operatorSilence),
		})
	}
	return all
}
