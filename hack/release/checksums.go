package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// writeChecksums writes SHA256SUMS over all other files, in the form that sha256sum --check reads.
func (b *build) writeChecksums(context.Context) error {
	entries, err := os.ReadDir(b.Output)
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, entry := range entries {
		sum, err := checksum(filepath.Join(b.Output, entry.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%s  %s\n", sum, entry.Name())
	}
	return os.WriteFile(filepath.Join(b.Output, "SHA256SUMS"), []byte(sums.String()), 0o644)
}
