// Package browser holds the page of kubectl meshprobe ui against a real Chromium: the real plugin binary serves probes of
// a real API server, whose statuses a lab once handed out. It is a module of its own, so that what drives the browser is
// not among the operator's dependencies. hack/chromium.sh installs the browser.
package browser
