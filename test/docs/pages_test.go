package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

const root = "../.."

// page is one Markdown file, by its path from the repository's root.
type page struct {
	path string
	// prose is the text without fenced blocks, which are in blocks.
	prose  string
	blocks []block
}

// block is a fenced block of code.
type block struct {
	language, text string
	// line is where it begins, counted from 1.
	line int
}

func pages(t *testing.T) []page {
	t.Helper()
	var all []page
	for _, pattern := range []string{"README*.md", "CHANGELOG.md", "docs/*.md", "hack/lab/README.md"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(paths) == 0 {
			t.Fatalf("no page is called %s: %v", pattern, err)
		}
		for _, path := range paths {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				t.Fatal(err)
			}
			p, err := parse(name, string(content))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, p)
		}
	}
	return all
}

func parse(path, content string) (page, error) {
	p := page{path: path}
	var prose, code strings.Builder
	inside := false
	number := 0
	for line := range strings.Lines(content) {
		number++
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && !inside:
			inside = true
			p.blocks = append(p.blocks, block{language: fence, line: number + 1})
			code.Reset()
		case isFence:
			inside = false
			p.blocks[len(p.blocks)-1].text = code.String()
		case inside:
			code.WriteString(line)
		default:
			prose.WriteString(line)
		}
	}
	p.prose = prose.String()
	if inside {
		return p, fmt.Errorf("%s: a block of code is not closed", path)
	}
	return p, nil
}

var inlineCode = regexp.MustCompile("`[^`\n]+`")

// spans are the pieces of code inside the text.
func (p page) spans() []string {
	spans := inlineCode.FindAllString(p.prose, -1)
	for i := range spans {
		spans[i] = strings.Trim(spans[i], "`")
	}
	return spans
}

var headingLine = regexp.MustCompile(`(?m)^#+ +(.+?) *$`)

// anchors are the names that headings can be linked by, as GitHub makes them.
func (p page) anchors() map[string]bool {
	anchors := map[string]bool{}
	for _, heading := range headingLine.FindAllStringSubmatch(p.prose, -1) {
		anchor := slug(heading[1])
		unique := anchor
		for n := 1; anchors[unique]; n++ {
			unique = fmt.Sprintf("%s-%d", anchor, n)
		}
		anchors[unique] = true
	}
	return anchors
}

var linkText = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)

func slug(heading string) string {
	heading = linkText.ReplaceAllString(heading, "$1")
	var out strings.Builder
	for _, r := range strings.ToLower(heading) {
		switch {
		case r == ' ':
			out.WriteByte('-')
		case unicode.IsLetter(r), unicode.IsNumber(r), r == '-', r == '_':
			out.WriteRune(r)
		}
	}
	return out.String()
}
