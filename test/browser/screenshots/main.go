// Command screenshots makes pictures of the page of kubectl meshprobe ui, light and dark:
//
//	screenshots PLUGIN PREFIX [PATH [WIDTH]]
//
// starts PLUGIN ui, and writes PREFIX-light.png and PREFIX-dark.png.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/meshprobe/httpsmeshprobe/test/browser"
)

func main() {
	if len(os.Args) < 3 || len(os.Args) > 5 {
		fmt.Fprintln(os.Stderr, "usage: screenshots PLUGIN PREFIX [PATH [WIDTH]]")
		os.Exit(2)
	}
	path, width := "/", int64(1280)
	if len(os.Args) > 3 {
		path = os.Args[3]
	}
	if len(os.Args) > 4 {
		width, _ = strconv.ParseInt(os.Args[4], 10, 64)
	}
	if err := serveAndTake(os.Args[1], os.Args[2], path, width); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func serveAndTake(plugin, prefix, path string, width int64) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, plugin, "ui")
	command.Stderr = os.Stderr
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	output, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	defer func() {
		cancel()
		_ = command.Wait()
	}()
	address, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		return fmt.Errorf("%s ui gave no address: %w", plugin, err)
	}
	return take(ctx, strings.TrimSpace(address), prefix, path, width)
}

func take(ctx context.Context, address, prefix, path string, width int64) error {
	tab, end, err := browser.Open(ctx)
	if err != nil {
		return err
	}
	defer end()
	base, _, _ := strings.Cut(address, "/?")
	for _, scheme := range []string{"light", "dark"} {
		if err := tab.Prefer("prefers-color-scheme", scheme); err != nil {
			return err
		}
		drawn := chromedp.WaitVisible(chromedp.CSS("[data-data=live] section:not([hidden]) :is(#rows tr, .answers)"))
		if err := tab.Do(chromedp.EmulateViewport(width, 600), chromedp.Navigate(address), chromedp.Navigate(base+path), drawn); err != nil {
			return err
		}
		image, err := chromedp.Run(tab.Context, chromedp.FullScreenshot(100))
		if err != nil {
			return err
		}
		if err := os.WriteFile(prefix+"-"+scheme+".png", image, 0o644); err != nil {
			return err
		}
	}
	return nil
}
