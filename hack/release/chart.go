package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

const chart = "httpsmeshprobe"

var (
	chartVersions = regexp.MustCompile(`(?m)^(version|appVersion):.*$`)
	noRepository  = regexp.MustCompile(`(?m)^  repository: ""$`)
)

// packChart writes the chart with this release's version in its Chart.yaml and the image's name in its values. Helm's own
// packages bear the time at which they were packed.
func (b *build) packChart(context.Context) error {
	root := filepath.Join(b.Checkout, "charts", chart)
	if _, err := os.Stat(root); os.IsNotExist(err) {
		return nil
	}
	files, err := folder(root, chart+"/")
	if err != nil {
		return err
	}
	replaced := 0
	for i, file := range files {
		switch file.name {
		case chart + "/Chart.yaml":
			files[i].content = chartVersions.ReplaceAllFunc(file.content, func(line []byte) []byte {
				replaced++
				if line[0] == 'a' {
					return []byte("appVersion: " + b.Version)
				}
				return []byte("version: " + b.Number)
			})
		case chart + "/values.yaml":
			files[i].content = noRepository.ReplaceAllFunc(file.content, func([]byte) []byte {
				replaced++
				return []byte("  repository: " + b.Image)
			})
		}
	}
	if replaced != 3 {
		return fmt.Errorf("%s: Chart.yaml must have a version and an appVersion, each once at the beginning of a line, and values.yaml one empty repository, in image", root)
	}
	return writeTarGz(filepath.Join(b.Output, fmt.Sprintf("%s-%s.tgz", chart, b.Number)), files, b.Time)
}
