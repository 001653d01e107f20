package browser

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// ErrNoChromium says that the machine has none.
var ErrNoChromium = errors.New("no Chromium on this machine: hack/chromium.sh installs it on Debian")

// Tab is a page in a Chromium of its own, and what it asked for and complained about.
type Tab struct {
	context.Context
	mu         sync.Mutex
	complaints []string
	origins    []string
}

// Open starts Chromium with an empty profile, which goes with it. end stops it and waits until it has ended.
func Open(ctx context.Context) (tab *Tab, end func(), err error) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		return nil, nil, ErrNoChromium
	}
	// Chromium keeps crash reports and caches in the home of whoever starts it, beside its profile.
	home, err := os.MkdirTemp("", "chromium-home-")
	if err != nil {
		return nil, nil, err
	}
	flags := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("lang", "en-GB"),
		chromedp.Env("HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home))
	allocator, endAllocator := chromedp.NewExecAllocator(ctx, flags...)
	browser, endBrowser := chromedp.NewContext(allocator)
	tab = &Tab{Context: browser}
	end = func() {
		_ = chromedp.Cancel(browser)
		endBrowser()
		endAllocator()
		_ = os.RemoveAll(home)
	}
	if err := tab.listen(); err != nil {
		end()
		return nil, nil, fmt.Errorf("start %s: %w", path, err)
	}
	return tab, end, nil
}

func (t *Tab) listen() error {
	if err := chromedp.Do(t.Context); err != nil {
		return err
	}
	if err := chromedp.Listen(t.Context, t.note); err != nil {
		return err
	}
	_, logErr := chromedp.Call(t.Context, cdplog.Enable, cdp.Empty{})
	_, networkErr := chromedp.Call(t.Context, network.Enable, network.EnableParams{})
	return errors.Join(logErr, networkErr)
}

func (t *Tab) note(event any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch event := event.(type) {
	case *runtime.EventExceptionThrown:
		t.complaints = append(t.complaints, (&chromedp.ExceptionError{ExceptionDetails: event.ExceptionDetails}).Error())
	case *runtime.EventConsoleAPICalled:
		t.complaints = append(t.complaints, fmt.Sprintf("console.%s: %s", event.Type, arguments(event.Args)))
	case *cdplog.EventEntryAdded:
		t.complaints = append(t.complaints, fmt.Sprintf("%s %s: %s %s", event.Entry.Source, event.Entry.Level, event.Entry.Text, event.Entry.URL))
	case *network.EventRequestWillBeSent:
		if address, err := url.Parse(event.Request.URL); err == nil {
			t.origins = append(t.origins, address.Scheme+"://"+address.Host)
		}
	}
}

func arguments(objects []*runtime.RemoteObject) string {
	var texts []string
	for _, object := range objects {
		texts = append(texts, string(object.Value)+object.Description)
	}
	return strings.Join(texts, " ")
}

// Complaints are the errors, warnings and other messages in the console since the last call.
func (t *Tab) Complaints() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	complaints := t.complaints
	t.complaints = nil
	return complaints
}

// Origins are the servers that the page asked for something, each once.
func (t *Tab) Origins() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	origins := slices.Clone(t.origins)
	slices.Sort(origins)
	return slices.Compact(origins)
}

// Do runs actions one after the other.
func (t *Tab) Do(actions ...chromedp.Action[chromedp.Void]) error {
	return chromedp.Do(t.Context, actions...)
}

// Prefer sets what the person's system prefers: feature is, for example, prefers-color-scheme, and value dark.
func (t *Tab) Prefer(feature, value string) error {
	_, err := chromedp.Call(t.Context, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: feature, Value: value}},
	})
	return err
}
