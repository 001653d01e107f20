package page_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
	"github.com/meshprobe/httpsmeshprobe/internal/page"
)

// deadAddress refuses connections: these tests are about the page's own server, and need no cluster. test/browser has one.
const deadAddress = "http://127.0.0.1:1"

// serving runs a page until the test ends, and returns a function that ends it and waits.
func serving(t *testing.T) (*page.Server, func()) {
	t.Helper()
	scheme := kruntime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := api.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(api.GroupVersion.WithKind(api.Kind), meta.RESTScopeNamespace)
	reader, err := client.NewWithWatch(&rest.Config{Host: deadAddress}, client.Options{Scheme: scheme, Mapper: mapper})
	if err != nil {
		t.Fatal(err)
	}
	server, err := page.Listen(page.Options{Client: reader, Sentence: error.Error, Cluster: "nowhere"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	}
	t.Cleanup(stop)
	return server, stop
}

// visitor is a browser of its own; it follows no redirects by itself.
func visitor(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Jar: jar, Transport: transport, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// ask sends one request and reads the answer; change may alter the request.
func ask(t *testing.T, visitor *http.Client, method, address string, change func(*http.Request)) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(request)
	}
	response, err := visitor.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

func base(server *page.Server) string {
	base, _, _ := strings.Cut(server.URL(), "/?")
	return base
}

// everything is what the server answers to, but the stream.
var everything = []string{"/", "/probe/shop/web", "/assets/page.js", "/assets/page.css", "/api/about", "/api/probes/shop/web", "/api/probes/shop/web/explanation"}

func TestOnlyWhoHasTheTokenGetsIn(t *testing.T) {
	server, _ := serving(t)
	for _, path := range append(everything, "/api/stream", "/nothing") {
		for name, address := range map[string]string{"no token": path, "a wrong one": path + "?token=AAAAAAAAAAAAAAAAAAAAAAAAAA", "an empty one": path + "?token="} {
			response, body := ask(t, visitor(t), http.MethodGet, base(server)+address, nil)
			if response.StatusCode != http.StatusForbidden || len(response.Cookies()) > 0 || strings.Contains(body, "nowhere") {
				t.Errorf("%s with %s: %s %q", path, name, response.Status, body)
			}
		}
	}
	guest := visitor(t)
	response, _ := ask(t, guest, http.MethodGet, strings.Replace(server.URL(), "/?", "/probe/shop/web?", 1), nil)
	if response.StatusCode != http.StatusSeeOther || response.Header.Get("Location") != "/probe/shop/web" {
		t.Errorf("with the token: %s, to %q", response.Status, response.Header.Get("Location"))
	}
	cookies := response.Cookies()
	if len(cookies) != 1 || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteLaxMode || cookies[0].Domain != "" {
		t.Errorf("cookies %v", cookies)
	}
	response, body := ask(t, guest, http.MethodGet, base(server)+"/api/about", nil)
	if response.StatusCode != http.StatusOK || !strings.Contains(body, "nowhere") {
		t.Errorf("with the cookie: %s %q", response.Status, body)
	}
}

// The address that a browser's opener gets can be read by others in the list of programs.
func TestTheOpenersAddressWorksOnce(t *testing.T) {
	server, _ := serving(t)
	first, second := visitor(t), visitor(t)
	address := server.URLOnce()
	if response, _ := ask(t, first, http.MethodGet, address, nil); response.StatusCode != http.StatusSeeOther {
		t.Errorf("the first time: %s", response.Status)
	}
	response, body := ask(t, second, http.MethodGet, address, nil)
	if response.StatusCode != http.StatusForbidden || !strings.Contains(body, "was used") {
		t.Errorf("the second time: %s %q", response.Status, body)
	}
	if response, _ := ask(t, first, http.MethodGet, base(server)+"/api/about", nil); response.StatusCode != http.StatusOK {
		t.Errorf("the first visitor afterwards: %s", response.Status)
	}
	if response, _ := ask(t, second, http.MethodGet, base(server)+"/?once=", nil); response.StatusCode != http.StatusForbidden {
		t.Errorf("an empty one: %s", response.Status)
	}
}

func TestARedirectStaysHere(t *testing.T) {
	server, _ := serving(t)
	response, _ := ask(t, visitor(t), http.MethodGet, strings.Replace(server.URL(), "/?", "//example.org/?", 1), nil)
	if location := response.Header.Get("Location"); location != "/example.org" {
		t.Errorf("%s to %q", response.Status, location)
	}
}

// A name that somebody else's DNS leads to 127.0.0.1 is not answered, token or not (DNS rebinding).
func TestOnlyLoopbackNamesAreAnswered(t *testing.T) {
	server, _ := serving(t)
	for host, want := range map[string]int{
		"127.0.0.1": http.StatusSeeOther, "localhost:9999": http.StatusSeeOther,
		"example.org": http.StatusMisdirectedRequest, "example.org:80": http.StatusMisdirectedRequest, "127.0.0.1.example.org": http.StatusMisdirectedRequest,
		"localhost.example.org": http.StatusMisdirectedRequest, "0.0.0.0": http.StatusMisdirectedRequest, "[::1]:80": http.StatusMisdirectedRequest,
	} {
		response, _ := ask(t, visitor(t), http.MethodGet, server.URL(), func(r *http.Request) { r.Host = host })
		if response.StatusCode != want {
			t.Errorf("Host %s: %s, want %d", host, response.Status, want)
		}
	}
}

func TestItOnlyListensOnLoopback(t *testing.T) {
	server, _ := serving(t)
	address, err := url.Parse(server.URL())
	if err != nil || address.Hostname() != "127.0.0.1" {
		t.Errorf("%s: %v", server.URL(), err)
	}
}

func TestItAnswersGetAlone(t *testing.T) {
	server, _ := serving(t)
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions, http.MethodHead, http.MethodTrace} {
		response, _ := ask(t, visitor(t), method, server.URL(), nil)
		if response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") != http.MethodGet {
			t.Errorf("%s: %s", method, response.Status)
		}
	}
}

func TestEveryAnswerHasTheSecurityHeaders(t *testing.T) {
	server, _ := serving(t)
	guest := visitor(t)
	ask(t, guest, http.MethodGet, server.URL(), nil)
	for _, who := range []*http.Client{guest, visitor(t)} {
		for _, path := range append(everything, "/nothing") {
			response, _ := ask(t, who, http.MethodGet, base(server)+path, func(r *http.Request) { r.Header.Set("Origin", "https://example.org") })
			header := response.Header
			policy := header.Get("Content-Security-Policy")
			if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || !strings.Contains(policy, "frame-ancestors 'none'") {
				t.Errorf("%s: Content-Security-Policy %q", path, policy)
			}
			if header.Get("X-Frame-Options") != "DENY" || header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Cache-Control") != "no-store" ||
				header.Get("Referrer-Policy") != "no-referrer" || header.Get("Cross-Origin-Resource-Policy") != "same-origin" {
				t.Errorf("%s: %v", path, header)
			}
			if header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s lets other origins read it", path)
			}
		}
	}
}

// The page holds no script or style in its markup, and names no other server.
func TestTheAssetsAreWholeAndOurOwn(t *testing.T) {
	files, err := os.ReadDir("assets")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d assets: %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile("assets/" + file.Name())
		if err != nil {
			t.Fatal(err)
		}
		content := strings.ReplaceAll(string(text), "http://www.w3.org/2000/svg", "")
		for _, foreign := range []string{"http://", "https://", "//cdn", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", " style=", " onclick=", "<script>", "<style>"} {
			if strings.Contains(content, foreign) {
				t.Errorf("%s has %q", file.Name(), foreign)
			}
		}
	}
}

// The stream says at once how the connection is, ends with the server in words, and leaves nothing running.
func TestTheStreamEndsWithTheServer(t *testing.T) {
	server, stop := serving(t)
	guest := visitor(t)
	ask(t, guest, http.MethodGet, server.URL(), nil)
	response, err := guest.Get(base(server) + "/api/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	if !lines.Scan() || lines.Text() != "event: update" || !lines.Scan() || !strings.Contains(lines.Text(), `"live":false`) {
		t.Fatalf("the stream begins with %q: %v", lines.Text(), lines.Err())
	}
	stop()
	last := ""
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "event: ") {
			last = lines.Text()
		}
	}
	if last != "event: ended" || lines.Err() != nil {
		t.Errorf("the stream ends with %q: %v", last, lines.Err())
	}
	wantNothingRunning(t)
}

func TestAStreamEndsWithItsClient(t *testing.T) {
	server, stop := serving(t)
	guest := visitor(t)
	ask(t, guest, http.MethodGet, server.URL(), nil)
	for range 20 {
		response, err := guest.Get(base(server) + "/api/stream")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := response.Body.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
	waitFor(t, "the streams to end", func() bool { return !strings.Contains(stacks(t), "(*Server).stream") })
	stop()
	wantNothingRunning(t)
}

func wantNothingRunning(t *testing.T) {
	t.Helper()
	if running := stacks(t); strings.Contains(running, "internal/page.(") || strings.Contains(running, "tools/cache.(*Reflector)") {
		t.Errorf("still running:\n%s", running)
	}
}

func stacks(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&all, 2); err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// waitFor looks again and again, for half a minute at most.
func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s in vain", what)
		}
	}
}
