package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/operatorimage"
)

// buildImage writes the operator's image for all architectures as one OCI image layout, and an SBOM for each program.
func (b *build) buildImage(ctx context.Context) error {
	programs, layout := filepath.Join(b.scratch, "image"), filepath.Join(b.scratch, "layout")
	if err := os.Mkdir(programs, 0o755); err != nil {
		return err
	}
	stamp := operatorimage.Stamp{Version: b.Version, Revision: b.Revision, Created: b.Time.UTC().Format(time.RFC3339)}
	var err error
	if b.digest, err = operatorimage.BuildIndex(ctx, b.Checkout, programs, b.Architectures, stamp, b.Version, layout); err != nil {
		return err
	}
	for _, architecture := range b.Architectures {
		for _, program := range []string{"manager", "probe"} {
			p := platform{"linux", architecture}
			name := fmt.Sprintf("%s_%s_%s", program, b.Version, p)
			if err := b.writeSBOM(ctx, p, filepath.Join(programs, program+"_"+architecture), name); err != nil {
				return err
			}
		}
	}
	files, err := folder(layout, "")
	if err != nil {
		return err
	}
	archive := filepath.Join(b.Output, fmt.Sprintf("httpsmeshprobe_%s_image.tar", b.Version))
	return writeFile(archive, func(to io.Writer) error { return writeTar(to, files, b.Time) })
}
