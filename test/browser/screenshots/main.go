// Command screenshots makes pictures of the page of kubectl meshprobe ui: screenshots ADDRESS FOLDER
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/meshprobe/httpsmeshprobe/test/browser"
)

type picture struct {
	name, scheme, path string
	width, height      int64
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: screenshots ADDRESS FOLDER")
		os.Exit(2)
	}
	if err := take(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func take(address, folder string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	tab, end, err := browser.Open(ctx)
	if err != nil {
		return err
	}
	defer end()
	if err := tab.Do(chromedp.Navigate(address), chromedp.WaitVisible(chromedp.CSS("[data-data=live] #rows tr"))); err != nil {
		return err
	}
	base, _, _ := strings.Cut(address, "/?")
	var pictures []picture
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{1280, 380} {
			pictures = append(pictures,
				picture{fmt.Sprintf("all-%s-%d", scheme, width), scheme, "/", width, 720},
				picture{fmt.Sprintf("one-%s-%d", scheme, width), scheme, os.Getenv("PROBE"), width, 720})
		}
	}
	for _, p := range pictures {
		if err := p.take(tab, base, folder); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

func (p picture) take(tab *browser.Tab, base, folder string) error {
	if err := tab.Prefer("prefers-color-scheme", p.scheme); err != nil {
		return err
	}
	wait := chromedp.WaitVisible(chromedp.CSS("[data-data=live] section:not([hidden]) :is(tbody tr, .path)"))
	if err := tab.Do(chromedp.EmulateViewport(p.width, p.height), chromedp.Navigate(base+p.path), wait); err != nil {
		return err
	}
	image, err := chromedp.Run(tab.Context, chromedp.FullScreenshot(100))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, p.name+".png"), image, 0o644)
}
