package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Links of Markdown, and those of HTML, in which the README shows pictures.
var links = regexp.MustCompile(`\]\(([^)\s]+)(?: "[^"]*")?\)|(?:src|srcset|href)="([^"]+)"`)

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	all := pages(t)
	anchors := map[string]map[string]bool{}
	for _, p := range all {
		anchors[p.path] = p.anchors()
	}
	count := 0
	for _, p := range all {
		prose := inlineCode.ReplaceAllString(p.prose, "")
		for _, link := range links.FindAllStringSubmatch(prose, -1) {
			target := link[1] + link[2]
			if strings.Contains(target, "://") {
				continue
			}
			count++
			if complaint := follow(p.path, target, anchors); complaint != "" {
				t.Errorf("%s links to %s: %s", p.path, target, complaint)
			}
		}
	}
	if count < 30 {
		t.Errorf("only %d links were found", count)
	}
}

func follow(from, target string, anchors map[string]map[string]bool) string {
	path, anchor, hasAnchor := strings.Cut(target, "#")
	path = filepath.Join(filepath.Dir(from), path)
	if target[0] == '#' {
		path = from
	}
	if _, err := os.Stat(filepath.Join(root, path)); err != nil {
		return "there is no such file"
	}
	if known, isPage := anchors[path]; hasAnchor && isPage && !known[anchor] {
		return "the page has no such heading"
	}
	return ""
}

func TestFollowFindsBrokenLinks(t *testing.T) {
	anchors := map[string]map[string]bool{"README.md": {"declare-a-probe": true}}
	for target, works := range map[string]bool{
		"../README.md": true, "../README.md#declare-a-probe": true, "../README.md#gone": false, "nowhere.md": false, "../config/samples": true,
	} {
		if complaint := follow("docs/concepts.md", target, anchors); (complaint == "") != works {
			t.Errorf("%s: %q", target, complaint)
		}
	}
	for heading, want := range map[string]string{"Read a verdict": "read-a-verdict", "`kubectl` & co.": "kubectl--co", "读懂结论": "读懂结论"} {
		if got := slug(heading); got != want {
			t.Errorf("%q becomes %q", heading, got)
		}
	}
}

// docs/README.md is the index: what it does not name is not found.
func TestTheIndexNamesEveryPage(t *testing.T) {
	index, err := os.ReadFile(filepath.Join(root, "docs", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages(t) {
		name := filepath.Base(p.path)
		if filepath.Dir(p.path) == "docs" && name != "README.md" && !strings.Contains(string(index), "]("+name+")") {
			t.Errorf("docs/README.md does not name %s", name)
		}
	}
}
