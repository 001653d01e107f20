package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

const (
	valuesBegin = "<!-- values: generated from charts/httpsmeshprobe/values.yaml by make manifests -->\n"
	valuesEnd   = "<!-- end of values -->\n"
)

// described is a comment in values.yaml that says what a value is: # image.tag -- its tag
var described = regexp.MustCompile(`(?m)^ *# ([A-Za-z.]+) -- (.+)$`)

// withValues is docs/install.md with the table of the chart's values.
func withValues(root string) ([]byte, error) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "install.md"))
	if err != nil {
		return nil, err
	}
	before, rest, begins := strings.Cut(string(page), valuesBegin)
	_, after, ends := strings.Cut(rest, valuesEnd)
	if !begins || !ends {
		return nil, fmt.Errorf("docs/install.md lacks the lines between which the table of values goes")
	}
	table, err := valuesTable(root)
	return []byte(before + valuesBegin + table + valuesEnd + after), err
}

func valuesTable(root string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, "charts", "httpsmeshprobe", "values.yaml"))
	if err != nil {
		return "", err
	}
	var values map[string]any
	if err := yaml.UnmarshalStrict(text, &values); err != nil {
		return "", fmt.Errorf("values.yaml: %w", err)
	}
	table := "| value | default | says |\n|---|---|---|\n"
	var known []string
	for _, found := range described.FindAllStringSubmatch(string(text), -1) {
		value, ok := valueAt(values, found[1])
		if !ok {
			return "", fmt.Errorf("values.yaml describes %s, which is not there", found[1])
		}
		shown, err := json.Marshal(value)
		if err != nil {
			return "", err
		}
		known = append(known, found[1])
		table += fmt.Sprintf("| `%s` | `%s` | %s |\n", found[1], shown, found[2])
	}
	if missing := undescribed(values, "", known); missing != "" {
		return "", fmt.Errorf("values.yaml does not describe %s: write # %s -- what it is", missing, missing)
	}
	return table, nil
}

func valueAt(values map[string]any, path string) (any, bool) {
	first, rest, deeper := strings.Cut(path, ".")
	value, ok := values[first]
	if !deeper || !ok {
		return value, ok
	}
	inner, isMap := value.(map[string]any)
	if !isMap {
		return nil, false
	}
	return valueAt(inner, rest)
}

// undescribed names a value that no comment describes, nor any above it.
func undescribed(values map[string]any, prefix string, known []string) string {
	for key, value := range values {
		path := prefix + key
		inner, isMap := value.(map[string]any)
		switch {
		case slices.Contains(known, path):
		case isMap && len(inner) > 0:
			if missing := undescribed(inner, path+".", known); missing != "" {
				return missing
			}
		default:
			return path
		}
	}
	return ""
}
