package plugin

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// progress tells a waiting person how far every probe is: on one line where that can be written anew, else in a line for
// every change.
type progress struct {
	mu      sync.Mutex
	out     io.Writer
	width   int
	texts   map[string]string
	ended   int
	all     int
	visible bool
}

// usualWidth is taken where a terminal does not say how wide it is.
const usualWidth = 80

// newProgress shows the way of all probes on out.
func newProgress(out io.Writer, all int) *progress {
	p := &progress{out: out, all: all, texts: map[string]string{}}
	if !isTerminal(out) || os.Getenv("TERM") == "dumb" {
		return p
	}
	if file, ok := out.(*os.File); ok {
		if p.width, _, _ = term.GetSize(int(file.Fd())); p.width <= 0 {
			p.width = usualWidth
		}
	}
	return p
}

// say tells where a probe is.
func (p *progress) say(name, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.texts[name] == text {
		return
	}
	p.texts[name] = text
	p.show(name + ": " + text)
}

// end tells that a probe needs no more waiting.
func (p *progress) end(name, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended++
	if p.texts[name] == text {
		return
	}
	p.texts[name] = text
	p.show(name + ": " + text)
}

func (p *progress) show(line string) {
	if p.width == 0 {
		fmt.Fprintln(p.out, line)
		return
	}
	runes := []rune(fmt.Sprintf("[%d/%d] %s", p.ended, p.all, strings.Map(printable, line)))
	if len(runes) >= p.width {
		runes = append(runes[:max(0, p.width-2)], '…')
	}
	fmt.Fprintf(p.out, "\r\x1b[K%s", string(runes))
	p.visible = true
}

// printable keeps what a status holds from moving the cursor.
func printable(r rune) rune {
	if r < ' ' || r == '\x7f' {
		return ' '
	}
	return r
}

// clear takes the line away, so that others can be written.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.visible {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.visible = false
	}
}
