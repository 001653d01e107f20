package page_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/page"
)

func named(t *testing.T, state, name string) *api.HTTPSMeshProbe {
	probe := probeFrom(t, state)
	probe.Name = name
	return probe
}

func shown(update page.Update) string {
	var names []string
	for _, row := range update.Rows {
		names = append(names, row.Name+" "+string(row.Ready.State))
	}
	return fmt.Sprintf("all=%v %s; gone %s", update.All, strings.Join(names, ", "), strings.Join(update.Gone, ", "))
}

func wantUpdate(t *testing.T, subscriber *page.Subscriber, want string) {
	t.Helper()
	select {
	case <-subscriber.Wake:
	default:
		t.Fatalf("nobody woke the subscriber for %q", want)
	}
	if got := shown(subscriber.Take()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// freshTime is when the verdicts of the statuses here are not overdue.
var freshTime = labTime.Add(-4 * time.Minute)

func TestASubscriberIsToldWhatChangedAndNoMore(t *testing.T) {
	board := page.NewBoard()
	early := board.Subscribe()
	defer early.Close()
	wantUpdate(t, early, "all=false ; gone ")
	board.Replace([]*api.HTTPSMeshProbe{named(t, "verified", "b"), named(t, "verified", "a")}, freshTime)
	wantUpdate(t, early, "all=true a verified, b verified; gone ")
	late := board.Subscribe()
	defer late.Close()
	wantUpdate(t, late, "all=true a verified, b verified; gone ")
	board.Put(named(t, "refuted", "b"), freshTime)
	board.Put(named(t, "verified", "c"), freshTime)
	board.Put(named(t, "refuted", "c"), freshTime)
	board.Drop(types.NamespacedName{Namespace: "gates", Name: "a"})
	wantUpdate(t, early, "all=false b refuted, c refuted; gone gates/a")
	board.Age(freshTime)
	board.Replace([]*api.HTTPSMeshProbe{named(t, "refuted", "b")}, freshTime)
	wantUpdate(t, early, "all=true b refuted; gone ")
	wantUpdate(t, late, "all=true b refuted; gone ")
	board.Age(freshTime.Add(time.Hour))
	wantUpdate(t, early, "all=false b unknown; gone ")
}

// Before the first list nothing is live, and a lost connection is passed on.
func TestNothingIsLiveBeforeItIsKnown(t *testing.T) {
	board := page.NewBoard()
	subscriber := board.Subscribe()
	defer subscriber.Close()
	board.Connect(page.Connection{Live: true, Seen: labTime})
	if subscriber.Take().Connection.Live {
		t.Error("live without a list")
	}
	board.Replace(nil, labTime)
	board.Connect(page.Connection{Live: true, Seen: labTime})
	if !subscriber.Take().Connection.Live {
		t.Error("not live")
	}
	board.Connect(page.Connection{Seen: labTime, Trouble: "cut off"})
	if got := subscriber.Take().Connection; got.Live || got.Trouble != "cut off" || !got.Seen.Equal(labTime) {
		t.Errorf("%+v", got)
	}
}

func TestManyReadersAndWriters(t *testing.T) {
	board := page.NewBoard()
	board.Replace(nil, labTime)
	probe := probeFrom(t, "verified")
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			subscriber := board.Subscribe()
			defer subscriber.Close()
			for range 50 {
				one := probe.DeepCopy()
				one.Name = fmt.Sprint("p", i)
				board.Put(one, labTime)
				<-subscriber.Wake
				subscriber.Take()
				board.Age(labTime)
			}
		})
	}
	group.Wait()
	subscriber := board.Subscribe()
	defer subscriber.Close()
	if rows := subscriber.Take().Rows; len(rows) != 8 {
		t.Errorf("%d rows", len(rows))
	}
}

// What the page saw change is told with what it was before; what others recorded is told too, each thing once.
func TestHistory(t *testing.T) {
	before, after := named(t, "verified", "web"), named(t, "refuted", "web")
	after.UID = before.UID
	board := page.NewBoard()
	board.Put(before, labTime)
	board.Put(after, labTime)
	probe, seen, ok := board.Detail(types.NamespacedName{Namespace: "gates", Name: "web"})
	if !ok {
		t.Fatal("no probe")
	}
	turned := after.Status.Conditions[0].LastTransitionTime.Time
	event := func(uid types.UID, reason, note string, at time.Time) eventsv1.Event {
		return eventsv1.Event{Regarding: corev1.ObjectReference{UID: uid}, Type: "Warning", Reason: reason, Note: note, EventTime: metav1.NewMicroTime(at)}
	}
	repeated := event(probe.UID, "Repaired", "set back", turned.Add(-time.Hour))
	repeated.Series = &eventsv1.EventSeries{Count: 3, LastObservedTime: metav1.NewMicroTime(turned.Add(time.Minute))}
	history := page.History(probe, seen, []eventsv1.Event{
		event(probe.UID, "Refuted", "said by the condition already", turned.Add(time.Second)),
		event("another", "Refuted", "of an earlier probe of the name", turned),
		event(probe.UID, "PolicyChanged", "earlier", turned.Add(-time.Minute)),
		repeated,
	})
	var told []string
	for _, one := range history {
		told = append(told, strings.TrimSpace(fmt.Sprintf("%s %s %s>%s %s %d", one.What, one.State, one.From, one.To, one.Reason, one.Count)))
	}
	want := `Warning event  > Repaired 3
Ready refuted True>False Refuted 0
IstioProxyVerified refuted True>False MTLSNotEnforced 0
OutsiderVerified refuted True>False MTLSNotEnforced 0
PolicyInEffect refuted True>False Overridden 0
SleepVerified verified >True Answered 0
Warning event  > PolicyChanged 0`
	if got := strings.Join(told, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A probe that was deleted and made anew has a history of its own.
func TestANewProbeOfTheNameHasNoHistory(t *testing.T) {
	board := page.NewBoard()
	board.Put(named(t, "verified", "web"), labTime)
	board.Put(named(t, "refuted", "web"), labTime)
	if _, seen, _ := board.Detail(types.NamespacedName{Namespace: "gates", Name: "web"}); len(seen) != 0 {
		t.Errorf("%+v", seen)
	}
}
