package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// platform is what a program is compiled for, in Go's words.
type platform struct{ OS, Architecture string }

func (p platform) String() string { return p.OS + "_" + p.Architecture }

// What a release is built for.
var (
	imageArchitectures = []string{"amd64", "arm64"}
	pluginPlatforms    = []platform{
		{"darwin", "amd64"}, {"darwin", "arm64"},
		{"linux", "amd64"}, {"linux", "arm64"},
		{"windows", "amd64"}, {"windows", "arm64"},
	}
)

// build is one release in the making.
type build struct {
	// Checkout is the repository's folder, Output the folder that is written, Changelog and SBOMTool are files.
	Checkout, Output, Changelog, SBOMTool string
	// Number is the version as charts have it, 1.2.3; Version is v1.2.3, as tags and programs have it.
	Number, Version string
	// Revision is the commit, Time when it was made: everything in the release bears that time.
	Revision string
	Time     time.Time
	// Image is the image's name without tag.
	Image         string
	Platforms     []platform
	Architectures []string

	// digest is that of the image's index, once it is built.
	digest string
	// scratch is removed at the end.
	scratch string
}

// semantic is the form of semver.org, without build metadata, which an image's tag cannot have.
var semantic = regexp.MustCompile(`^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$`)

func (b *build) takeVersion(text string) error {
	b.Number = strings.TrimPrefix(text, "v")
	if !semantic.MatchString(b.Number) {
		return fmt.Errorf("%q is no version: give one such as 1.2.3 or 1.2.3-rc.1", text)
	}
	b.Version = "v" + b.Number
	return nil
}

// Run builds everything. What the folder held before is gone; when it fails, what is there is not complete and has no
// SHA256SUMS.
func (b *build) Run(ctx context.Context) error {
	notes, err := changelogSection(b.Changelog, b.Number)
	if err != nil {
		return err
	}
	if err := absolute(&b.Checkout, &b.Output, &b.SBOMTool); err != nil {
		return err
	}
	if err := emptyFolder(b.Output); err != nil {
		return err
	}
	if b.scratch, err = os.MkdirTemp("", "release-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.scratch)
	if err := os.WriteFile(filepath.Join(b.Output, "RELEASE_NOTES.md"), []byte(notes), 0o644); err != nil {
		return err
	}
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"image", b.buildImage},
		{"plugin", b.buildPlugin},
		{"manifests", b.renderManifests},
		{"chart", b.packChart},
		{"checksums", b.writeChecksums},
	} {
		begun := time.Now()
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		fmt.Printf("%-10s %4.0f s\n", step.what, time.Since(begun).Seconds())
	}
	fmt.Printf("%s is in %s; the image's digest is %s\n", b.Version, b.Output, b.digest)
	return nil
}

// emptyFolder leaves the folder itself, so that it may be a mount. It deletes nothing where it finds a repository.
func emptyFolder(path string) error {
	if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
		return fmt.Errorf("%s is a Go module's folder: name another for the release", path)
	}
	entries, err := os.ReadDir(path)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	for _, entry := range entries {
		if err := os.RemoveAll(filepath.Join(path, entry.Name())); err != nil {
			return err
		}
	}
	return os.MkdirAll(path, 0o755)
}
