// Command release builds all that a release of HTTPSMeshProbe consists of into one folder, and publishes nothing. Built
// twice from the same commit, by the same Go, it is the same byte for byte.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const usage = `usage: release --version VERSION [flags]

Builds a release from the commit that is checked out: image, plugin, manifests, chart, SBOMs, krew manifest, checksums.

`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("release", flag.ExitOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	b := build{Platforms: pluginPlatforms, Architectures: imageArchitectures}
	number := flags.String("version", "", "the release's `version`, such as 1.2.3")
	flags.StringVar(&b.Checkout, "checkout", ".", "the repository's `folder`")
	flags.StringVar(&b.Output, "output", "dist", "the `folder` to write; what is in it is deleted first")
	flags.StringVar(&b.Changelog, "changelog", "CHANGELOG.md", "the `file` that must have a section for the version")
	flags.StringVar(&b.Image, "image", "ghcr.io/meshprobe/httpsmeshprobe", "the `name`, without tag, under which the image will be published")
	flags.StringVar(&b.SBOMTool, "sbom-tool", "bin/cyclonedx-gomod", "the `program` that writes SBOMs")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("release takes flags alone, not %q", flags.Args())
	}
	if err := b.takeVersion(*number); err != nil {
		return err
	}
	if err := b.readCommit(ctx); err != nil {
		return err
	}
	if err := b.Run(ctx); err != nil {
		return err
	}
	return b.confirmCommit(ctx)
}

// confirmCommit takes the checksums away from a release during which the checkout changed: what is in it is of two commits.
func (b *build) confirmCommit(ctx context.Context) error {
	now := build{Checkout: b.Checkout}
	err := now.readCommit(ctx)
	if err == nil && now.Revision != b.Revision {
		err = fmt.Errorf("the checkout went from %s to %s", b.Revision, now.Revision)
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("the checkout changed while the release was built, so build it again: %w", err)
	return errors.Join(err, os.Remove(filepath.Join(b.Output, "SHA256SUMS")))
}

// readCommit takes revision and time from the commit that is checked out, and refuses files that are not in it.
func (b *build) readCommit(ctx context.Context) error {
	changed, err := git(ctx, b.Checkout, "status", "--porcelain")
	if err != nil {
		return err
	}
	if changed != "" {
		return fmt.Errorf("the checkout has changes that are in no commit: commit or remove them first:\n%s", changed)
	}
	if b.Revision, err = git(ctx, b.Checkout, "rev-parse", "HEAD"); err != nil {
		return err
	}
	when, err := git(ctx, b.Checkout, "log", "-1", "--format=%cI")
	if err != nil {
		return err
	}
	b.Time, err = time.Parse(time.RFC3339, when)
	return err
}

func git(ctx context.Context, checkout string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, "git", args...)
	command.Dir, command.Stderr = checkout, os.Stderr
	out, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("git %s in %s: %w", strings.Join(args, " "), checkout, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// absolute makes paths independent of the folders that other programs are run in.
func absolute(paths ...*string) error {
	for _, path := range paths {
		full, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = full
	}
	return nil
}
