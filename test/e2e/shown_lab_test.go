package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// The tests TestShown… put hostile and ordinary configurations before a probe, each with a truth of its own: what curl
// meets from the probe's three places, and what the client's Envoy counts. A probe that declares what is not so must
// leave Ready=True in time and stay away from it, and must say what is so.

const (
	reasonLedElsewhere       = "LedElsewhere"
	reasonUnexpectedMutual   = "UnexpectedMutualTLS"
	reasonUntrustedAccepted  = "UntrustedCertificateAccepted"
	reasonMutualAccepted     = "MutualTLSAccepted"
	reasonApplicationRefused = "ApplicationRefused"
	reasonTimedOut           = "TimedOut"
	reasonConnectionBroken   = "ConnectionBroken"
	reasonNoConnection       = "NoConnection"
	reasonAuthorization      = "AuthorizationDenied"
	reasonReconcileFailed    = "ReconcileFailed"
)

const (
	shownInterval = 5 * time.Second
	// fallsWithin is how long a claim that has ceased to be true may stand: three intervals, and what a busy lab takes
	// to deliver the change.
	fallsWithin = 3*shownInterval + 15*time.Second
	// staysAway is how long it is watched after that.
	staysAway = 30 * time.Second
	// comesBackWithin is how long a claim that is true again may wait.
	comesBackWithin = 3*shownInterval + 20*time.Second
)

// saying is what a condition must come to say.
type saying struct {
	kind string
	// status "" is any.
	status  metav1.ConditionStatus
	reasons []string
	// words must all stand in the message.
	words []string
}

func says(kind string, status metav1.ConditionStatus, reasons ...string) saying {
	return saying{kind: kind, status: status, reasons: reasons}
}

func (s saying) naming(words ...string) saying {
	s.words = words
	return s
}

// unmet tells what a status lacks of it; "" if nothing.
func (s saying) unmet(hmp *api.HTTPSMeshProbe) string {
	c := condition(hmp, s.kind)
	wrong := s.status != "" && c.Status != s.status || len(s.reasons) > 0 && !slices.Contains(s.reasons, c.Reason)
	for _, word := range s.words {
		wrong = wrong || !strings.Contains(c.Message, word)
	}
	if !wrong {
		return ""
	}
	return fmt.Sprintf("%s is %s %s (%s); want %s %s naming %q", s.kind, c.Status, c.Reason, c.Message, s.status, strings.Join(s.reasons, " or "), s.words)
}

// vigil holds every status of a probe, as a watch brings it, against what is so.
type vigil struct {
	*follower
	hmp    *api.HTTPSMeshProbe
	latest *api.HTTPSMeshProbe
}

func keep(t *testing.T, hmp *api.HTTPSMeshProbe) *vigil {
	t.Helper()
	return &vigil{follower: follow(t, hmp), hmp: hmp, latest: read(t, hmp)}
}

// verified waits for a probe of a good configuration, and begins the vigil.
func verified(t *testing.T, hmp *api.HTTPSMeshProbe) *vigil {
	t.Helper()
	awaitCondition(t, hmp, api.ConditionReady, metav1.ConditionTrue)
	return keep(t, hmp)
}

func isTrue(hmp *api.HTTPSMeshProbe) bool {
	return condition(hmp, api.ConditionReady).Status == metav1.ConditionTrue
}

// next takes the next version, or none until the deadline.
func (v *vigil) next(t *testing.T, deadline time.Time) bool {
	t.Helper()
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case arrived, ok := <-v.arrivals:
		if !ok {
			t.Fatalf("the watch of probe %s has ended", v.name)
		}
		v.latest = arrived.probe
		return true
	case <-timer.C:
		return false
	}
}

// catchUp takes what has arrived already.
func (v *vigil) catchUp(t *testing.T) {
	t.Helper()
	for len(v.arrivals) > 0 {
		v.next(t, time.Now().Add(time.Second))
	}
}

// fallsAndStays expects Ready to leave True for good in time after what has just been done, to stay away while it
// lasts, and all of this to be said at the end.
func (v *vigil) fallsAndStays(t *testing.T, within, lasts time.Duration, want ...saying) {
	t.Helper()
	begun := time.Now()
	v.catchUp(t)
	var times int
	var fallen time.Duration
	for until := begun.Add(within); ; {
		before := isTrue(v.latest)
		if !v.next(t, until) {
			break
		}
		switch now := isTrue(v.latest); {
		case before && !now:
			times, fallen = times+1, time.Since(begun)
			until = begun.Add(fallen + lasts)
		case now:
			until = begun.Add(within)
		}
	}
	if isTrue(v.latest) {
		t.Errorf("Ready is True %s after it ceased to be so (it left True %d times): %s", time.Since(begun).Round(time.Millisecond), times, v.words())
		return
	}
	t.Logf("Ready has left True for good after %s, at time %d", fallen.Round(time.Millisecond), times)
	v.says(t, want...)
}

// says expects all of it of the latest status, or of one that comes within two intervals.
func (v *vigil) says(t *testing.T, want ...saying) {
	t.Helper()
	unmet := func() (lacks []string) {
		for _, s := range want {
			if lack := s.unmet(v.latest); lack != "" {
				lacks = append(lacks, lack)
			}
		}
		return lacks
	}
	for until := time.Now().Add(2 * shownInterval); len(unmet()) > 0 && v.next(t, until); {
	}
	for _, lack := range unmet() {
		t.Error(lack)
	}
	t.Log("it says " + v.words())
}

// comesBack expects Ready=True in time after what has just been undone.
func (v *vigil) comesBack(t *testing.T) {
	t.Helper()
	begun := time.Now()
	v.catchUp(t)
	for !isTrue(v.latest) && v.next(t, begun.Add(comesBackWithin)) {
	}
	if !isTrue(v.latest) {
		t.Errorf("Ready has not come back %s after all is well again: %s", comesBackWithin, v.words())
		return
	}
	t.Logf("Ready is back after %s", time.Since(begun).Round(time.Millisecond))
}

// neverFalse expects no status to say False for so long.
func (v *vigil) neverFalse(t *testing.T, lasts time.Duration) {
	t.Helper()
	v.catchUp(t)
	for until := time.Now().Add(lasts); v.next(t, until); {
		if condition(v.latest, api.ConditionReady).Status == metav1.ConditionFalse {
			t.Errorf("Ready is False: %s", v.words())
			return
		}
	}
}

// words are what a probe says, for the log.
func (v *vigil) words() string {
	var words []string
	for _, kind := range []string{api.ConditionReady, api.ConditionSleepVerified, api.ConditionIstioProxyVerified, api.ConditionOutsiderVerified, api.ConditionPolicyInEffect} {
		c := condition(v.latest, kind)
		words = append(words, fmt.Sprintf("%s=%s %s (%s)", kind, c.Status, c.Reason, c.Message))
	}
	if len(v.latest.Status.Paths) > 0 {
		words = append(words, "encryption "+string(v.latest.Status.Paths[0].Encryption)+", paths "+observed(v.latest))
	}
	return strings.Join(words, "; ")
}

// occasions asks for runs again and again, in one stroke for all the probes, until the test ends or stop is called.
func occasions(t *testing.T, every func() time.Duration, probes ...*api.HTTPSMeshProbe) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-time.After(every()):
			}
			patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"%d"}}}`, api.AnnotationRequestedAt, n))
			for _, hmp := range probes {
				if err := lab.Patch(ctx, hmp.DeepCopy(), patch); err != nil && ctx.Err() == nil {
					t.Errorf("ask for a run of %s: %v", hmp.Name, err)
				}
			}
		}
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

// odd is a server whose manners can be changed while it runs: test/e2e/oddserver in a pod of its own.
type odd struct {
	*server
	// ports are the manners by port; the Service that is named after the server leads to serverPort.
	ports map[int]string
	// edit changes the pod before it is made.
	edit func(*corev1.PodTemplateSpec)
}

func newOdd(t *testing.T, namespace, name string) *odd {
	t.Helper()
	return &odd{server: newServer(t, namespace, name), ports: map[int]string{serverPort: "plain"}}
}

// bare leaves out the sidecar.
func (o *odd) bare() *odd {
	o.labels = map[string]string{"sidecar.istio.io/inject": "false"}
	return o
}

// create makes the server with its Service, and waits until it serves.
func (o *odd) create(t *testing.T) *odd {
	t.Helper()
	meta := metav1.ObjectMeta{Namespace: o.namespace, Name: o.name}
	deployment := o.deployment(meta)
	pod := &deployment.Spec.Template
	arguments := ""
	for port, manner := range o.ports {
		arguments += fmt.Sprintf(" %d=%s", port, manner)
	}
	pod.Spec.Volumes = nil
	server := &pod.Spec.Containers[0]
	server.Name, server.VolumeMounts = "odd", nil
	server.Command = []string{"sh", "-c", "until [ -x /tmp/oddserver ]; do sleep 0.1; done; exec /tmp/oddserver" + arguments}
	server.ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{
		Exec: &corev1.ExecAction{Command: []string{"test", "-e", "/tmp/oddserver-started"}}}}
	if o.edit != nil {
		o.edit(pod)
	}
	for _, object := range []client.Object{&corev1.ServiceAccount{ObjectMeta: meta}, deployment, o.service(meta)} {
		if err := lab.Create(t.Context(), object); err != nil {
			t.Fatalf("create %T %s: %v", object, o.name, err)
		}
	}
	o.awaitServing(t, 1)
	return o
}

// awaitServing gives every pod the program, and waits until so many are ready.
func (o *odd) awaitServing(t *testing.T, n int) []corev1.Pod {
	t.Helper()
	program, err := os.ReadFile(os.Getenv("MESHPROBE_ODDSERVER"))
	if err != nil {
		t.Fatalf("MESHPROBE_ODDSERVER names no program; hack/e2e.sh builds one: %v", err)
	}
	given := map[string]bool{}
	await(t, fmt.Sprintf("%d pods of %s to run", n, o.name), func() error {
		for _, pod := range podsWith(t, o.namespace, "app="+o.name) {
			running := slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
				return s.Name == "odd" && s.State.Running != nil
			})
			if given[pod.Name] || !running || isReady(pod) {
				continue
			}
			if err := upload(t, &pod, program, "/tmp/oddserver"); err != nil {
				return err
			}
			given[pod.Name] = true
		}
		if ready := o.readyEndpoints(t); ready != n {
			return fmt.Errorf("the Service leads to %d", ready)
		}
		return nil
	})
	return o.awaitPods(t, n)
}

// upload writes a program into a pod.
func upload(t *testing.T, pod *corev1.Pod, content []byte, path string) error {
	t.Helper()
	command := []string{"sh", "-c", "cat >" + path + ".new && chmod 755 " + path + ".new && mv " + path + ".new " + path}
	request := lab.clientset.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: "odd", Command: command, Stdin: true, Stdout: true, Stderr: true}, clientgoscheme.ParameterCodec)
	executor, err := remotecommand.NewWebSocketExecutor(lab.config, "GET", request.URL().String())
	if err != nil {
		return err
	}
	var said bytes.Buffer
	err = executor.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: bytes.NewReader(content), Stdout: &said, Stderr: &said})
	if err != nil {
		return fmt.Errorf("%w: %s", err, said.String())
	}
	return nil
}

// behave changes the manner of a port in all of the server's pods; lasting "" is for good.
func (o *odd) behave(t *testing.T, port int, manner, lasting string) {
	t.Helper()
	for _, pod := range podsWith(t, o.namespace, "app="+o.name) {
		o.behaveOne(t, pod.Name, port, manner, lasting)
	}
}

func (o *odd) behaveOne(t *testing.T, pod string, port int, manner, lasting string) {
	t.Helper()
	url := fmt.Sprintf("http://127.0.0.1:9000/%d?manner=%s&for=%s", port, manner, lasting)
	if out, err := run(t, o.namespace, pod, "odd", "curl", "-sSf", "-m", "5", url); err != nil {
		t.Fatalf("%s, %s: %s, %v", pod, url, out, err)
	}
}

// expose makes a Service of another name that leads to a port of the server, and returns a probe of it.
func (o *odd) expose(t *testing.T, name string, port int, mode api.MTLSMode) *api.HTTPSMeshProbe {
	t.Helper()
	service := o.service(metav1.ObjectMeta{Namespace: o.namespace, Name: name})
	service.Spec.Ports[0].TargetPort = intstr.FromInt(port)
	if err := lab.Create(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	hmp := o.probe(name, mode)
	hmp.Spec.Target.Service.Name = name
	return hmp
}

// establish creates objects from YAML, and returns how to take them away again; whatever is left goes with the test.
func establish(t *testing.T, manifest string, values ...any) (undo func()) {
	t.Helper()
	var made []*unstructured.Unstructured
	for document := range strings.SplitSeq(fmt.Sprintf(manifest, values...), "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), object); err != nil {
			t.Fatalf("%v in %s", err, document)
		}
		if err := lab.Create(t.Context(), object); err != nil {
			t.Fatalf("create %s %s: %v", object.GetKind(), object.GetName(), err)
		}
		made = append(made, object)
	}
	undo = func() {
		for _, object := range made {
			if err := lab.Delete(context.Background(), object); client.IgnoreNotFound(err) != nil {
				t.Errorf("delete %s %s: %v", object.GetKind(), object.GetName(), err)
			}
		}
	}
	t.Cleanup(undo)
	return undo
}

// asks is curl as it is run from one of a probe's three places: the code, and the certificate of whoever answered.
func asks(t *testing.T, namespace, place, url string, options ...string) string {
	t.Helper()
	pod, container := "meshprobe-sleep", place
	if place == "outsider" {
		pod, container = "meshprobe-outsider", "sleep"
	}
	command := append([]string{"curl", "-sk", "-m", "5", "-o", "/dev/null", "-w", "%{http_code} %{errormsg} %{certs}"}, options...)
	out, _ := run(t, namespace, clientPod(t, namespace, pod).Name, container, append(command, url)...)
	readable, _, _ := strings.Cut(out, "-----BEGIN")
	return readable
}

func (o *odd) url() string { return "https://" + o.host() + "/" }

// truth expects curl to meet this from each of the places, before anything is expected of the operator: "200", or
// "000" for no answer.
func truth(t *testing.T, namespace, url, sleep, proxy, outsider string) {
	t.Helper()
	for place, want := range map[string]string{"sleep": sleep, "istio-proxy": proxy, "outsider": outsider} {
		await(t, fmt.Sprintf("curl from %s to meet %s", place, want), func() error {
			if got := asks(t, namespace, place, url); !strings.HasPrefix(got, want) {
				return fmt.Errorf("it meets %s", got)
			}
			return nil
		})
	}
}

// counted returns a counter of the client's Envoy, summed over the lines of its statistics that hold all the words.
func counted(t *testing.T, namespace string, words ...string) (sum int) {
	t.Helper()
	pod := clientPod(t, namespace, "meshprobe-sleep")
	out, err := run(t, namespace, pod.Name, "istio-proxy", "curl", "-s", "localhost:15000/stats")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		name, value, found := strings.Cut(strings.TrimSpace(line), ": ")
		all := found
		for _, word := range words {
			all = all && strings.Contains(name, word)
		}
		var n int
		if _, err := fmt.Sscan(value, &n); all && err == nil {
			sum += n
		}
	}
	return sum
}
