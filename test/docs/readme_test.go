package docs

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What the README says is said in Chinese too, with the same commands and the same answers.
func TestBothReadmesSayTheSame(t *testing.T) {
	var english, chinese page
	for _, p := range pages(t) {
		switch p.path {
		case "README.md":
			english = p
		case "README.zh.md":
			chinese = p
		}
	}
	if len(english.blocks) != len(chinese.blocks) {
		t.Errorf("README.md has %d blocks of code and README.zh.md %d", len(english.blocks), len(chinese.blocks))
	}
	for i := range min(len(english.blocks), len(chinese.blocks)) {
		if english.blocks[i].text != chinese.blocks[i].text || english.blocks[i].language != chinese.blocks[i].language {
			t.Errorf("README.md:%d and README.zh.md:%d hold different code", english.blocks[i].line, chinese.blocks[i].line)
		}
	}
	marks := regexp.MustCompile(`(?m)^#+ |^\| |^- `)
	if e, c := marks.FindAllString(english.prose, -1), marks.FindAllString(chinese.prose, -1); !slices.Equal(e, c) {
		t.Errorf("README.md has headings, rows and items\n%q, and README.zh.md\n%q", e, c)
	}
	if e, c := targets(english), targets(chinese); !slices.Equal(e, c) {
		t.Errorf("README.md links to\n%q, and README.zh.md to\n%q", e, c)
	}
	if e, c := spanSet(english), spanSet(chinese); !slices.Equal(e, c) {
		t.Errorf("README.md names\n%q, and README.zh.md\n%q", e, c)
	}
	for _, p := range []struct {
		page
		other string
	}{{english, "](README.zh.md)"}, {chinese, "](README.md)"}} {
		if !strings.Contains(p.prose, p.other) {
			t.Errorf("%s does not link to the other language", p.path)
		}
	}
}

// targets are where a page's links lead, but to the other README.
func targets(p page) []string {
	var all []string
	for _, link := range links.FindAllStringSubmatch(p.prose, -1) {
		if target := link[1] + link[2]; !strings.HasPrefix(target, "README") && !strings.HasPrefix(target, "#") {
			all = append(all, target)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// spanSet are the pieces of code inside the text, each once: word order differs between the languages.
func spanSet(p page) []string {
	all := p.spans()
	slices.Sort(all)
	return slices.Compact(all)
}
