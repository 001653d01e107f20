package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// writeSBOM lists the modules in a program, as the program itself says them (go version -m), in CycloneDX's form. It has
// neither a time nor a random serial number, so that it is the same when it is built again.
func (b *build) writeSBOM(ctx context.Context, p platform, program, name string) error {
	command := exec.CommandContext(ctx, b.SBOMTool, "bin", "-json", "-std", "-noserial", "-notimestamp",
		"-version", b.Version, "-output", filepath.Join(b.Output, name+".cdx.json"), program)
	command.Dir = b.Checkout
	// The tool takes these from its environment and not from the program.
	command.Env = append(os.Environ(), "GOWORK=off", "GOOS="+p.OS, "GOARCH="+p.Architecture)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("the SBOM of %s: %w\n%s", name, err, out)
	}
	return nil
}
