package page

import (
	"crypto/rand"
	"crypto/subtle"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"sync"
	"time"
)

// onceLasts is how long the address that is handed to the browser's opener can be used.
const onceLasts = time.Minute

// contentPolicy lets the page load what this server has and nothing else, and lets no text become markup or script.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

const (
	wrongToken = "This page is for whoever started it: open the address that kubectl meshprobe ui printed, with its token.\n"
	usedBefore = "This address worked once, and was used. Open the one that kubectl meshprobe ui printed.\n" +
		"If it was not you who used it, end the command: somebody else on this machine may be looking at your page.\n"
)

// guard lets through whoever has shown the token: once in the address, from then on in a cookie.
type guard struct {
	token  string
	cookie string

	mu        sync.Mutex
	once      string
	onceUntil time.Time
}

func newGuard(port int) *guard {
	return &guard{token: rand.Text(), cookie: "meshprobe-ui-" + strconv.Itoa(port)}
}

// newOnce returns a token that works one time within a minute of now. It is for places where other users of the machine
// can read it, such as the arguments of a program.
func (g *guard) newOnce(now time.Time) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.once, g.onceUntil = rand.Text(), now.Add(onceLasts)
	return g.once
}

func (g *guard) useOnce(token string, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.once == "" || !same(token, g.once) || now.After(g.onceUntil) {
		return false
	}
	g.once = ""
	return true
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// protect wraps what must be seen by the person who started the server alone.
func (g *guard) protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setSecurityHeaders(w.Header())
		query := r.URL.Query()
		switch {
		case r.Method != http.MethodGet:
			w.Header().Set("Allow", http.MethodGet)
			http.Error(w, "This page is read-only: GET is all it answers.", http.StatusMethodNotAllowed)
		case !isLoopbackName(r.Host):
			// A name that somebody else's DNS leads here (DNS rebinding).
			http.Error(w, "This page answers to 127.0.0.1 and localhost alone.", http.StatusMisdirectedRequest)
		case query.Has("token"):
			g.admit(w, r, same(query.Get("token"), g.token), wrongToken)
		case query.Has("once"):
			g.admit(w, r, g.useOnce(query.Get("once"), time.Now()), usedBefore)
		case !g.hasCookie(r):
			http.Error(w, wrongToken, http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// admit turns a token in the address into a cookie, and the address into one without token.
func (g *guard) admit(w http.ResponseWriter, r *http.Request, admitted bool, otherwise string) {
	if !admitted {
		http.Error(w, otherwise, http.StatusForbidden)
		return
	}
	// Lax, so that an address of this page in somebody's chat opens; all this server does is read.
	http.SetCookie(w, &http.Cookie{Name: g.cookie, Value: g.token, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, (&url.URL{Path: path.Clean("/" + r.URL.Path)}).String(), http.StatusSeeOther)
}

func (g *guard) hasCookie(r *http.Request) bool {
	cookie, err := r.Cookie(g.cookie)
	return err == nil && same(cookie.Value, g.token)
}

// isLoopbackName takes any port, because the page may be reached through a tunnel (ssh -L).
func isLoopbackName(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	return name == "127.0.0.1" || name == "localhost"
}

func setSecurityHeaders(header http.Header) {
	for name, value := range map[string]string{
		"Content-Security-Policy":      contentPolicy,
		"X-Frame-Options":              "DENY",
		"X-Content-Type-Options":       "nosniff",
		"Referrer-Policy":              "no-referrer",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Cache-Control":                "no-store",
	} {
		header.Set(name, value)
	}
}
