package browser_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/test/apiserver"
	"github.com/meshprobe/httpsmeshprobe/test/browser"
)

// open shows an address in a browser of the test's own, which must have nothing to complain of when the test ends.
func open(t *testing.T, ui *plugin) *browser.Tab {
	t.Helper()
	tab, end, err := browser.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if complaints := tab.Complaints(); len(complaints) > 0 {
			t.Errorf("the console has:\n%s", strings.Join(complaints, "\n"))
		}
		if origins := tab.Origins(); !slices.Equal(origins, []string{ui.base()}) {
			t.Errorf("the page asked %q", origins)
		}
		end()
	})
	do(t, tab, chromedp.EmulateViewport(1280, 800), chromedp.Navigate(ui.address))
	wait(t, tab, `document.documentElement.dataset.data === "live"`)
	return tab
}

func do(t *testing.T, tab *browser.Tab, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := tab.Do(actions...); err != nil {
		t.Fatal(err)
	}
}

func value[T any](t *testing.T, tab *browser.Tab, expression string) T {
	t.Helper()
	got, err := chromedp.Run(tab.Context, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return got
}

// wait looks again and again until expression is true, for a minute at most.
func wait(t *testing.T, tab *browser.Tab, expression string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !value[bool](t, tab, "Boolean("+expression+")"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never true: %s; the page shows:\n%s", expression, value[string](t, tab, "document.body.innerText"))
		}
	}
}

// slash presses the key. chromedp's own way would type the character even where the page takes the key for itself.
var slash = chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
	_, down := chromedp.Call(ctx, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeRawKeyDown, Key: "/", Code: "Slash"})
	_, up := chromedp.Call(ctx, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyUp, Key: "/", Code: "Slash"})
	return errors.Join(down, up)
})

// row is what the matrix shows of a probe, cell by cell, without what is only heard.
func row(t *testing.T, tab *browser.Tab, key string) []string {
	t.Helper()
	return value[[]string](t, tab, fmt.Sprintf(`(() => {
		const link = [...document.querySelectorAll("#rows a")].find((a) => a.textContent === %q);
		return [...(link?.closest("tr").children ?? [])].map((cell) => {
			const copy = cell.cloneNode(true);
			for (const heard of copy.querySelectorAll(".unseen")) heard.remove();
			return copy.textContent;
		});
	})()`, key))
}

func wantRow(t *testing.T, tab *browser.Tab, key string, want ...string) {
	t.Helper()
	got := row(t, tab, key)
	if len(got) != 8 {
		t.Fatalf("%s: %q", key, got)
	}
	for i, part := range want {
		if !strings.Contains(got[i], part) {
			t.Errorf("%s: cell %d is %q, want %q in it", key, i, got[i], part)
		}
	}
}

func visibleRows(t *testing.T, tab *browser.Tab) []string {
	t.Helper()
	return value[[]string](t, tab, `[...document.querySelectorAll("#rows tr:not([hidden]) a")].map((a) => a.textContent)`)
}

func TestTheMatrixShowsEveryStateInWordsAndSymbols(t *testing.T) {
	admin := admin(t)
	namespace(t, admin, "shop")
	for _, state := range []string{"verified", "refuted", "suspended", "undetermined", "name-taken", "following-while-verified"} {
		put(t, admin, "shop", state, state, nil)
	}
	put(t, admin, "shop", "overdue", "verified", func(p *api.HTTPSMeshProbe) {
		p.Status.LastProbeTime = &metav1.Time{Time: time.Now().Add(-time.Hour)}
	})
	ui, _ := startUI(t)
	tab := open(t, ui)
	wait(t, tab, `document.querySelectorAll("#rows tr").length === 7`)
	wantRow(t, tab, "shop/verified", "the operator's own server", "STRICT", "✓Verified", "✓200", "✓refused", "✓refused", "✓In effect", "s ago")
	wantRow(t, tab, "shop/refuted", "", "STRICT", "✗Refuted", "✓200", "✗200expected refused", "✗200expected refused", "✗Overridden")
	wantRow(t, tab, "shop/suspended", "", "STRICT", "?Suspended", "?was 200", "?was refused", "?was refused", "?Suspended")
	wantRow(t, tab, "shop/undetermined", "", "STRICT", "?Undetermined", "!closedexpected 200", "?", "?", "✓In effect")
	wantRow(t, tab, "shop/name-taken", "", "UNSET", "?Name taken stalled", "?–", "?–", "?–", "?Name taken", "never")
	wantRow(t, tab, "shop/following-while-verified", "", "UNSET", "✓Verified reconciling")
	wantRow(t, tab, "shop/overdue", "", "STRICT", "?Overdue overdue", "?was 200", "?was refused", "?was refused", "?Overdue", "min ago")
	if heard := value[string](t, tab, `document.querySelector("#rows tr[data-state=refuted] td[data-label=outsider]").textContent`); !strings.Contains(heard, "not as expected: ") {
		t.Errorf("who hears the page hears %q", heard)
	}
	if summary := value[string](t, tab, `document.getElementById("summary").innerText`); strings.Join(strings.Fields(summary), " ") != "✓ as expected: 2 verified ✗ not as expected: 1 refuted ? could not be told: 4 unknown" {
		t.Errorf("summary %q", summary)
	}
	if title := value[string](t, tab, "document.title"); title != "✗ 1 refuted, All probes – HTTPSMeshProbe" {
		t.Errorf("title %q", title)
	}
	if address := value[string](t, tab, "location.href"); address != ui.base()+"/" {
		t.Errorf("the token is still in the address: %s", address)
	}
}

func TestAChangeIsShownWithoutReload(t *testing.T) {
	admin := admin(t)
	namespace(t, admin, "live")
	put(t, admin, "live", "a", "verified", nil)
	put(t, admin, "live", "b", "verified", nil)
	ui, _ := startUI(t, "-n", "live")
	tab := open(t, ui)
	wait(t, tab, `document.querySelectorAll("#rows tr").length === 2`)
	value[bool](t, tab, `(window.touched = new Set(), new MutationObserver((records) => {
		for (const record of records) touched.add(record.target.nodeType === 1 ? record.target.closest("tr")?.querySelector("a").textContent : undefined);
	}).observe(document.getElementById("rows"), { childList: true, attributes: true, subtree: true, attributeFilter: ["data-state"] }), true)`)
	put(t, admin, "live", "b", "refuted", nil)
	wait(t, tab, `document.querySelectorAll("#rows tr[data-state=refuted]").length === 1`)
	wantRow(t, tab, "live/b", "", "STRICT", "✗Refuted", "✓200", "✗200")
	if touched := value[[]string](t, tab, `[...touched].filter((name) => name && name !== "live/b")`); len(touched) > 0 {
		t.Errorf("a change of live/b drew %q anew", touched)
	}
	if news := value[string](t, tab, `document.getElementById("news").textContent`); news != "live/b: refuted, Refuted" {
		t.Errorf("announced: %q", news)
	}
	put(t, admin, "live", "c", "suspended", nil)
	wait(t, tab, `document.querySelectorAll("#rows tr").length === 3`)
	if err := admin.Delete(t.Context(), &api.HTTPSMeshProbe{ObjectMeta: metav1.ObjectMeta{Namespace: "live", Name: "a"}}); err != nil {
		t.Fatal(err)
	}
	wait(t, tab, `document.querySelectorAll("#rows tr").length === 2`)
	if rows := visibleRows(t, tab); !slices.Equal(rows, []string{"live/b", "live/c"}) {
		t.Errorf("rows %q", rows)
	}
	if !value[bool](t, tab, "touched instanceof Set") {
		t.Error("the page was loaded anew")
	}
}

func TestFilterAndKeyboard(t *testing.T) {
	admin := admin(t)
	namespace(t, admin, "keys")
	for name, state := range map[string]string{"alpha": "verified", "beta": "refuted", "gamma": "verified", "gamut": "suspended"} {
		put(t, admin, "keys", name, state, nil)
	}
	ui, _ := startUI(t, "-n", "keys")
	tab := open(t, ui)
	wait(t, tab, `document.querySelectorAll("#rows tr").length === 4`)

	do(t, tab, chromedp.KeyEvent(kb.Tab))
	if focused := value[string](t, tab, "document.activeElement.textContent"); focused != "Skip to the content" {
		t.Errorf("first comes %q", focused)
	}
	do(t, tab, slash, chromedp.KeyEvent("gam"))
	wait(t, tab, `document.querySelectorAll("#rows tr:not([hidden])").length === 2`)
	if rows := visibleRows(t, tab); !slices.Equal(rows, []string{"keys/gamma", "keys/gamut"}) {
		t.Errorf("filtered by gam: %q", rows)
	}
	do(t, tab, chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(" "))
	wait(t, tab, `document.getElementById("only").checked`)
	if rows := visibleRows(t, tab); !slices.Equal(rows, []string{"keys/gamut"}) {
		t.Errorf("and only what is not verified: %q", rows)
	}
	if address := value[string](t, tab, "location.search"); address != "?q=gam&only=" {
		t.Errorf("the filter is not in the address: %q", address)
	}
	do(t, tab, chromedp.Reload())
	wait(t, tab, `document.querySelectorAll("#rows tr:not([hidden])").length === 1`)
	do(t, tab, slash, chromedp.KeyEvent(kb.Backspace), chromedp.KeyEvent(kb.Backspace), chromedp.KeyEvent(kb.Backspace))
	wait(t, tab, `document.querySelectorAll("#rows tr:not([hidden])").length === 2`)
	do(t, tab, chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Tab))
	if focused := value[string](t, tab, "document.activeElement.textContent"); focused != "keys/beta" {
		t.Errorf("behind the filter comes %q", focused)
	}
	do(t, tab, chromedp.KeyEvent(kb.ArrowDown))
	if focused := value[string](t, tab, "document.activeElement.textContent"); focused != "keys/gamut" {
		t.Errorf("below keys/beta comes %q", focused)
	}
	do(t, tab, chromedp.KeyEvent(kb.ArrowUp), chromedp.KeyEvent(kb.Enter))
	wait(t, tab, `location.pathname === "/probe/keys/beta" && document.querySelector(".path")`)
	if focused := value[string](t, tab, "document.activeElement.id"); focused != "one-title" {
		t.Errorf("the focus is on %q", focused)
	}
	do(t, tab, chromedp.NavigateBack())
	wait(t, tab, `!document.getElementById("all").hidden && document.activeElement.textContent === "keys/beta"`)
	if outline := value[string](t, tab, "getComputedStyle(document.activeElement).outlineStyle"); outline != "solid" {
		t.Errorf("the focus is shown as %q", outline)
	}
	if rows := visibleRows(t, tab); !slices.Equal(rows, []string{"keys/beta", "keys/gamut"}) {
		t.Errorf("back at %q", rows)
	}
}

func TestOneProbeInFull(t *testing.T) {
	admin := admin(t)
	namespace(t, admin, "detail")
	probe := put(t, admin, "detail", "web", "verified", nil)
	event := &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "detail", Name: "web.1"}, EventTime: metav1.NowMicro(), Type: "Warning", Reason: "Repaired", Action: "Repair",
		Note: "PeerAuthentication was changed by kubectl-edit and is set back", ReportingController: "test", ReportingInstance: "test",
		Regarding: corev1.ObjectReference{APIVersion: api.GroupVersion.String(), Kind: api.Kind, Namespace: "detail", Name: "web", UID: probe.UID},
	}
	if err := admin.Create(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	ui, _ := startUI(t)
	tab := open(t, ui)
	do(t, tab, chromedp.Navigate(ui.base()+"/probe/detail/web"))
	wait(t, tab, `document.querySelectorAll("article.path").length === 3 && document.querySelector("table.answers")`)
	text := strings.Join(strings.Fields(value[string](t, tab, "document.body.innerText")), " ")
	for _, part := range []string{
		"detail/web", "Verified", "around the client's sidecar", "TLS 1.3 TLS_AES_128_GCM_SHA256", "spiffe://cluster.local/ns/gates/sa/strict-nginx",
		"certificate_required", "was requested by the peer", "mutual TLS of the mesh, by Envoy's counters", "4.41ms", "1 ready, 1 dialed, 0 not as expected",
		"Declared, computed, delivered, observed", "STRICT demands a certificate of the mesh", "RefusedByMesh", "5caf17f1852fa37d598ed7ad0fd42c76fdf46f1e0b88ab838663ea0a8e5ad64d",
		"Warning event: Repaired", "kubectl-edit", "failure threshold 2 in a row",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("the page lacks %q", part)
		}
	}
	value[bool](t, tab, "window.stays = true")
	put(t, admin, "detail", "web", "refuted", nil)
	wait(t, tab, `document.body.innerText.includes("Ready True → False") && document.body.innerText.includes("Endpoints that were not as expected")`)
	if !value[bool](t, tab, "window.stays === true") {
		t.Error("the page was loaded anew")
	}
	do(t, tab, chromedp.Navigate(ui.base()+"/probe/detail/nobody"))
	wait(t, tab, `document.body.innerText.includes("There is no such probe")`)
}

// Whoever may see probes and nothing else sees probes, and is told what is missing.
func TestMissingRightsAreNamed(t *testing.T) {
	admin := admin(t)
	namespace(t, admin, "rights")
	put(t, admin, "rights", "web", "verified", nil)
	for _, where := range []string{"rights", "default"} {
		letLook(t, admin, where)
	}
	own, _ := startUI(t, "--as", "looker")
	own.end(t)
	if said := own.said(); !strings.Contains(said, "the page shows those of default") {
		t.Errorf("without -n it said %q", said)
	}
	ui, _ := startUI(t, "--as", "looker", "-n", "rights")
	tab := open(t, ui)
	if scope := value[string](t, tab, `document.getElementById("scope").textContent`); !strings.HasPrefix(scope, "namespace rights") {
		t.Errorf("scope %q", scope)
	}
	do(t, tab, chromedp.Navigate(ui.base()+"/probe/rights/web"))
	wait(t, tab, `document.querySelectorAll("article.path").length === 3 && document.querySelectorAll(".missing").length === 2`)
	missing := value[[]string](t, tab, `[...document.querySelectorAll(".missing")].map((p) => p.textContent)`)
	if !strings.Contains(missing[0], "no right to list pods") || !strings.Contains(missing[1], "no right to list events.events.k8s.io") {
		t.Errorf("missing: %q", missing)
	}
}

// letLook lets the user looker see the probes of a namespace, and nothing else.
func letLook(t *testing.T, admin client.Client, namespace string) {
	t.Helper()
	meta := metav1.ObjectMeta{Namespace: namespace, Name: "looker"}
	role := &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{APIGroups: []string{"meshprobe.dev"}, Resources: []string{"httpsmeshprobes"}, Verbs: []string{"get", "list", "watch"}}}}
	binding := &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "looker"},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "looker"}}}
	for _, object := range []client.Object{role, binding} {
		if err := admin.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
}

// Where something is wrong from the beginning, one line says what, and nothing is served.
func TestWhatCannotBeShownIsSaidInOneLine(t *testing.T) {
	admin := admin(t)
	namespace(t, admin, "own")
	ui, _ := startUI(t)
	_, port, _ := strings.Cut(strings.TrimPrefix(ui.base(), "http://"), ":")
	unreachable := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(unreachable, []byte(`{"apiVersion":"v1","kind":"Config","current-context":"c","contexts":[{"name":"c","context":{"cluster":"c"}}],"clusters":[{"name":"c","cluster":{"server":"http://127.0.0.1:1"}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		arguments []string
		want      string
	}{
		"contradiction":          {[]string{"-A", "-n", "own"}, "give either --all-namespaces or --namespace"},
		"no such namespace":      {[]string{"-n", "onw"}, `there is no namespace "onw"`},
		"port taken":             {[]string{"--port", port}, "port " + port + " is taken"},
		"no rights":              {[]string{"--as", "nobody"}, "or name a namespace in which you have it with -n"},
		"no rights, insisting":   {[]string{"--as", "nobody", "-A"}, "no right to list httpsmeshprobes.meshprobe.dev in the whole cluster"},
		"no rights there":        {[]string{"--as", "nobody", "-n", "own"}, "no right to list httpsmeshprobes.meshprobe.dev in namespace own"},
		"an argument":            {[]string{"web"}, "takes no arguments"},
		"nobody answers":         {[]string{"--kubeconfig", unreachable}, "cannot reach the cluster at http://127.0.0.1:1"},
		"a port that is no port": {[]string{"--port", "70000"}, "--port"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			command := exec.CommandContext(ctx, os.Getenv(pluginVariable), append([]string{"ui", "--kubeconfig", apiserver.Kubeconfig(kubeconfig)}, c.arguments...)...)
			output, _ := command.CombinedOutput()
			if text := string(output); command.ProcessState.ExitCode() != 2 || !strings.Contains(text, c.want) || strings.Count(text, "\n") != 1 {
				t.Errorf("exit code %d: %s", command.ProcessState.ExitCode(), text)
			}
		})
	}
}

// What the cluster holds is text, whatever it looks like.
func TestTextFromTheClusterIsNeverMarkup(t *testing.T) {
	admin := admin(t)
	namespace(t, admin, "hostile")
	const hostile = `<img src=x onerror="window.hacked=1"><script>window.hacked=2</script>"'&lt;b&gt;`
	put(t, admin, "hostile", "web", "refuted", func(p *api.HTTPSMeshProbe) {
		for i := range p.Status.Conditions {
			p.Status.Conditions[i].Message = hostile
		}
		p.Status.Conditions = append(p.Status.Conditions, metav1.Condition{Type: "Stalled", Status: "True", Reason: "NameTaken", Message: hostile, LastTransitionTime: metav1.Now()})
		for i := range p.Status.Paths {
			path := &p.Status.Paths[i]
			path.Observed, path.Message, path.Peer = hostile[:60], hostile, hostile
		}
		p.Spec.Expect = []api.PathExpectation{{Path: "sleep", Reason: hostile}}
		p.Spec.Expect[0].See.Type, p.Spec.Expect[0].See.IntVal = 0, 200
		p.Status.LastPolicyChange = &api.PolicyChange{Object: hostile, From: hostile, To: hostile}
	})
	ui, _ := startUI(t, "-n", "hostile")
	tab := open(t, ui)
	wait(t, tab, `document.querySelectorAll("#rows tr").length === 1`)
	wantRow(t, tab, "hostile/web", "", "", hostile, hostile[:60])
	do(t, tab, chromedp.Navigate(ui.base()+"/probe/hostile/web"))
	wait(t, tab, `document.querySelectorAll("article.path").length === 3 && document.querySelector("table.answers")`)
	if count := value[int](t, tab, fmt.Sprintf("document.body.innerText.split(%q).length - 1", hostile)); count < 15 {
		t.Errorf("it is shown %d times as it is", count)
	}
	if value[bool](t, tab, `"hacked" in window || document.querySelector("img, main script") !== null`) {
		t.Error("text became markup")
	}
	// Were there a hole, the browser would not let it through.
	if refused := value[string](t, tab, `(() => { try { document.body.insertAdjacentHTML("beforeend", "<i>"); return "let through"; } catch (fault) { return fault.name; } })()`); refused != "TypeError" {
		t.Errorf("markup from text is %s", refused)
	}
	if complaints := tab.Complaints(); len(complaints) != 1 || !strings.Contains(complaints[0], "TrustedHTML") {
		t.Errorf("the console has %q", complaints)
	}
}

// contrast is the lowest ratio of text to what is behind it (WCAG 2.2, success criterion 1.4.3), and where.
const contrast = `(() => {
	const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
	const rgb = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
	const light = (c) => c.slice(0, 3).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	let worst = { ratio: 99 };
	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let node; (node = walker.nextNode());) {
		const text = node.textContent.trim(), owner = node.parentElement;
		if (!text || !owner.checkVisibility() || owner.closest(".unseen, .skip, noscript, script")) continue;
		let behind = owner, paper;
		do { paper = rgb(getComputedStyle(behind).backgroundColor); behind = behind.parentElement; } while (paper[3] < 255 && behind);
		const [a, b] = [light(rgb(getComputedStyle(owner).color)), light(paper)].sort((x, y) => y - x);
		const ratio = (a + 0.05) / (b + 0.05);
		if (ratio < worst.ratio) worst = { ratio, text, paper: String(paper) };
	}
	return worst;
})()`

func TestLightDarkAndNarrow(t *testing.T) {
	admin := admin(t)
	namespace(t, admin, "looks")
	for _, state := range []string{"verified", "refuted", "suspended", "undetermined", "name-taken"} {
		put(t, admin, "looks", "a-probe-with-a-name-that-is-as-long-as-it-may-be-"+state[:3], state, nil)
	}
	ui, _ := startUI(t, "-n", "looks")
	tab := open(t, ui)
	if err := tab.Prefer("prefers-reduced-motion", "reduce"); err != nil {
		t.Fatal(err)
	}
	papers := map[string]string{}
	for _, scheme := range []string{"light", "dark"} {
		if err := tab.Prefer("prefers-color-scheme", scheme); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/", "/probe/looks/a-probe-with-a-name-that-is-as-long-as-it-may-be-ref"} {
			do(t, tab, chromedp.Navigate(ui.base()+path))
			wait(t, tab, `document.documentElement.dataset.data === "live" && document.querySelector("section:not([hidden]) :is(#rows tr, .answers)")`)
			worst := value[struct {
				Ratio       float64
				Text, Paper string
			}](t, tab, contrast)
			if worst.Ratio < 4.5 || worst.Ratio > 90 {
				t.Errorf("%s, %s: %q has a contrast of %.2f", scheme, path, worst.Text, worst.Ratio)
			}
			papers[scheme] = worst.Paper
			for _, width := range []int64{360, 380, 768, 1280} {
				do(t, tab, chromedp.EmulateViewport(width, 800))
				if wide := value[int64](t, tab, "document.documentElement.scrollWidth"); wide > width {
					t.Errorf("%s at %d is %d wide", path, width, wide)
				}
			}
		}
	}
	if papers["light"] == papers["dark"] {
		t.Errorf("both schemes are on %s", papers["light"])
	}
}

// Old data is never shown as fresh.
func TestALostConnectionIsShown(t *testing.T) {
	admin := admin(t)
	namespace(t, admin, "lost")
	put(t, admin, "lost", "web", "verified", nil)
	ui, wire := startUI(t, "-n", "lost")
	tab := open(t, ui)
	wait(t, tab, `document.querySelectorAll("#rows tr[data-state=verified]").length === 1`)
	wire.setCut(true)
	put(t, admin, "lost", "web", "refuted", nil)
	wait(t, tab, `document.documentElement.dataset.data === "old"`)
	banner := value[string](t, tab, `document.getElementById("trouble").innerText`)
	if !strings.HasPrefix(banner, "Connection to the cluster lost: ") || !strings.Contains(banner, "What is shown is as of ") {
		t.Errorf("banner %q", banner)
	}
	if title := value[string](t, tab, "document.title"); !strings.HasPrefix(title, "(old) ") {
		t.Errorf("title %q", title)
	}
	if shown := value[string](t, tab, `document.getElementById("connection").textContent`); shown != "○ connection lost" {
		t.Errorf("connection %q", shown)
	}
	wire.setCut(false)
	wait(t, tab, `document.documentElement.dataset.data === "live" && document.querySelector("#rows tr[data-state=refuted]")`)
	if value[bool](t, tab, `!document.getElementById("trouble").hidden`) {
		t.Error("the banner stays")
	}
	ui.end(t)
	wait(t, tab, `document.getElementById("trouble").innerText.startsWith("kubectl meshprobe ui has ended")`)
	if state := value[string](t, tab, "document.documentElement.dataset.data"); state != "old" {
		t.Errorf("after the end the data is %s", state)
	}
}

func TestFiveHundredProbes(t *testing.T) {
	admin := admin(t)
	namespace(t, admin, "many")
	t.Run("made", func(t *testing.T) {
		for tenth := range 10 {
			t.Run(fmt.Sprint(tenth), func(t *testing.T) {
				t.Parallel()
				for i := range 50 {
					put(t, admin, "many", fmt.Sprintf("probe-%03d", tenth*50+i), "verified", nil)
				}
			})
		}
	})
	ui, _ := startUI(t, "-n", "many")
	tab := open(t, ui)
	wait(t, tab, `document.querySelectorAll("#rows tr").length === 500`)
	value[bool](t, tab, `(window.redrawn = 0, new MutationObserver((records) => {
		redrawn += records.filter((record) => record.type === "childList" && record.target.tagName === "TD" && record.target.dataset.label !== "Checked").length;
	}).observe(document.getElementById("rows"), { childList: true, subtree: true }), true)`)
	put(t, admin, "many", "probe-321", "refuted", nil)
	wait(t, tab, `document.querySelector("#rows tr[data-state=refuted]")`)
	// Ready, two paths and the policy.
	if cells := value[int](t, tab, "redrawn"); cells != 4 {
		t.Errorf("one change drew %d cells anew", cells)
	}
	do(t, tab, slash, chromedp.KeyEvent("probe-32"))
	wait(t, tab, `document.querySelectorAll("#rows tr:not([hidden])").length === 10 && document.getElementById("shown").textContent === "10 of 500 shown"`)
}
