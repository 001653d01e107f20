package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// changelogSection is what CHANGELOG.md says of a version, without its heading (keepachangelog.com, version 1.1.0).
func changelogSection(path, number string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	heading := regexp.MustCompile(`^## \[` + regexp.QuoteMeta(number) + `\] - [0-9]{4}-[0-9]{2}-[0-9]{2}$`)
	var section strings.Builder
	found := false
	for line := range strings.Lines(string(content)) {
		switch {
		case heading.MatchString(strings.TrimSpace(line)):
			found = true
		case strings.HasPrefix(line, "## "):
			if found {
				return cleanSection(path, number, section.String())
			}
		case found:
			section.WriteString(line)
		}
	}
	if !found {
		return "", fmt.Errorf("%s has no section \"## [%s] - YYYY-MM-DD\": move what is under Unreleased there first", path, number)
	}
	return cleanSection(path, number, section.String())
}

func cleanSection(path, number, section string) (string, error) {
	section = strings.TrimSpace(section)
	if section == "" {
		return "", fmt.Errorf("%s says nothing of version %s", path, number)
	}
	return section + "\n", nil
}
