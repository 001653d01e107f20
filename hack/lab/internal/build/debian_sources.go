package build

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/versions"
)

// debianSources writes the machine's own Debian mirrors in apt's one-line
// format, for the suite the lab is pinned to. Mirrors of anything but the
// machine's Debian release are left out.
func debianSources(aptDir, release string) (string, error) {
	var all []aptSource
	files, _ := filepath.Glob(filepath.Join(aptDir, "sources.list.d", "*"))
	for _, file := range append([]string{filepath.Join(aptDir, "sources.list")}, files...) {
		content, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		switch filepath.Ext(file) {
		case ".list":
			all = append(all, parseOneLineSources(string(content))...)
		case ".sources":
			all = append(all, parseStanzaSources(string(content))...)
		}
	}
	lines := map[string]bool{}
	for _, source := range all {
		if line, ok := source.pinned(release); ok {
			lines[line] = true
		}
	}
	if len(lines) == 0 {
		return "", fmt.Errorf("no Debian mirror for the suite %q is configured under %s: the lab builds its node from Debian packages and needs one", release, aptDir)
	}
	sorted := make([]string, 0, len(lines))
	for line := range lines {
		sorted = append(sorted, line)
	}
	sort.Strings(sorted)
	return strings.Join(sorted, "\n") + "\n", nil
}

// aptSource is one mirror, one suite.
type aptSource struct {
	uri, suite, signedBy string
	hasMain              bool
}

// pinned is the source's line for the lab's suite, if it serves the machine's
// Debian release.
func (s aptSource) pinned(release string) (string, bool) {
	variant, ok := strings.CutPrefix(s.suite, release)
	if !ok || !s.hasMain || (variant != "" && variant != "-updates" && variant != "-security") {
		return "", false
	}
	options := ""
	if s.signedBy != "" {
		options = "[signed-by=" + s.signedBy + "] "
	}
	return fmt.Sprintf("deb %s%s %s%s main", options, s.uri, versions.DebianSuite, variant), true
}

// parseOneLineSources reads lines such as "deb [signed-by=KEYRING] URI SUITE main".
func parseOneLineSources(content string) []aptSource {
	var sources []aptSource
	for line := range strings.Lines(content) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb ")
		if !ok {
			continue
		}
		source := aptSource{}
		rest = strings.TrimSpace(rest)
		if strings.HasPrefix(rest, "[") {
			options, after, _ := strings.Cut(rest[1:], "]")
			source.signedBy = optionValue(options, "signed-by")
			rest = after
		}
		words := strings.Fields(rest)
		if len(words) < 3 {
			continue
		}
		source.uri, source.suite, source.hasMain = words[0], words[1], contains(words[2:], "main")
		sources = append(sources, source)
	}
	return sources
}

func optionValue(options, name string) string {
	for _, option := range strings.Fields(options) {
		if value, ok := strings.CutPrefix(option, name+"="); ok {
			return value
		}
	}
	return ""
}

// parseStanzaSources reads apt's newer format, paragraphs of "Field: values".
func parseStanzaSources(content string) []aptSource {
	var sources []aptSource
	for _, stanza := range strings.Split(content, "\n\n") {
		fields := stanzaFields(stanza)
		if !contains(strings.Fields(fields["types"]), "deb") || strings.TrimSpace(fields["enabled"]) == "no" {
			continue
		}
		for _, uri := range strings.Fields(fields["uris"]) {
			for _, suite := range strings.Fields(fields["suites"]) {
				source := aptSource{uri: uri, suite: suite, hasMain: contains(strings.Fields(fields["components"]), "main")}
				// A key written into the file itself cannot be named in one line;
				// apt's own keyrings are then used.
				if keyring := strings.TrimSpace(fields["signed-by"]); filepath.IsAbs(keyring) {
					source.signedBy = keyring
				}
				sources = append(sources, source)
			}
		}
	}
	return sources
}

func stanzaFields(stanza string) map[string]string {
	fields := map[string]string{}
	name := ""
	scanner := bufio.NewScanner(strings.NewReader(stanza))
	for scanner.Scan() {
		line := scanner.Text()
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t"):
			fields[name] += " " + strings.TrimSpace(line)
		default:
			field, value, ok := strings.Cut(line, ":")
			if ok {
				name = strings.ToLower(field)
				fields[name] = strings.TrimSpace(value)
			}
		}
	}
	return fields
}

func contains(words []string, word string) bool {
	for _, each := range words {
		if each == word {
			return true
		}
	}
	return false
}

// debianRelease is the code name of the Debian this machine runs.
func debianRelease(osRelease string) (string, error) {
	content, err := os.ReadFile(osRelease)
	if err != nil {
		return "", fmt.Errorf("cannot tell which system this is: %w", err)
	}
	for line := range strings.Lines(string(content)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
			return strings.Trim(name, `"`), nil
		}
	}
	return "", errors.New("this machine is no Debian release (no VERSION_CODENAME in " + osRelease + "): the lab builds its node with Debian's apt and mirrors")
}
