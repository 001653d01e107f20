package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

const chart = "httpsmeshprobe"

var chartVersions = regexp.MustCompile(`(?m)^(version|appVersion):.*$`)

// packChart writes the chart with this release's version in its Chart.yaml. Helm's own packages bear the time at which
// they were packed.
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
		if file.name != chart+"/Chart.yaml" {
			continue
		}
		files[i].content = chartVersions.ReplaceAllFunc(file.content, func(line []byte) []byte {
			replaced++
			if line[0] == 'a' {
				return []byte("appVersion: " + b.Version)
			}
			return []byte("version: " + b.Number)
		})
	}
	if replaced != 2 {
		return fmt.Errorf("%s/Chart.yaml must have a version and an appVersion, each once at the beginning of a line", root)
	}
	return writeTarGz(filepath.Join(b.Output, fmt.Sprintf("%s-%s.tgz", chart, b.Number)), files, b.Time)
}
