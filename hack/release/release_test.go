package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

const changelog = `# Changelog

## [Unreleased]

### Added
- Something that is not out yet.

## [1.2.3] - 2026-01-02

### Added
- What is new.

## [1.2.2] - 2026-01-01

### Fixed
- What is old.
`

var committed = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// release builds version 1.2.3 of a checkout into a folder of its own.
func release(t *testing.T, checkout string, platforms []platform, architectures []string) (*build, map[string][]byte) {
	t.Helper()
	b := &build{
		Checkout: checkout, Output: filepath.Join(t.TempDir(), "dist"), Changelog: write(t, t.TempDir(), "CHANGELOG.md", changelog),
		SBOMTool: sbomTool(t), Image: "registry.example/httpsmeshprobe", Revision: "0123abc", Time: committed,
		Platforms: platforms, Architectures: architectures,
	}
	if err := b.takeVersion("1.2.3"); err != nil {
		t.Fatal(err)
	}
	if err := b.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, err := folder(b.Output, "")
	if err != nil {
		t.Fatal(err)
	}
	contents := map[string][]byte{}
	for _, file := range files {
		contents[file.name] = file.content
	}
	return b, contents
}

func sbomTool(t *testing.T) string {
	t.Helper()
	tool, err := filepath.Abs(filepath.Join("..", "..", "bin", "cyclonedx-gomod"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(tool); err != nil {
		t.Skip("there is no bin/cyclonedx-gomod: run make bin/cyclonedx-gomod")
	}
	return tool
}

// standIn is a checkout with the same rooms as ours and programs that print their version and do nothing else: compiling
// ours for six platforms takes minutes.
func standIn(t *testing.T) string {
	t.Helper()
	checkout := t.TempDir()
	const program = "package main\n\nvar version string\n\nfunc main() { println(version) }\n"
	for path, content := range map[string]string{
		"go.mod":                            "module example.test/operator\n\ngo 1.26\n",
		"main.go":                           program,
		"cmd/probe/main.go":                 program,
		"cmd/kubectl-meshprobe/main.go":     program,
		"LICENSE":                           "Do what you will.\n",
		"charts/httpsmeshprobe/Chart.yaml":  "apiVersion: v2\nname: httpsmeshprobe\nversion: 0.0.0\nappVersion: dev\n",
		"charts/httpsmeshprobe/values.yaml": "image:\n  repository: \"\"\nversion: 5\n",
		"config/default/kustomization.yaml": "resources: [../manager]\n",
		"config/manager/kustomization.yaml": "resources: [pod.yaml]\nimages: [{name: httpsmeshprobe, newName: httpsmeshprobe, newTag: dev}]\n",
		"config/manager/pod.yaml":           "apiVersion: v1\nkind: Pod\nmetadata: {name: manager}\nspec: {containers: [{name: manager, image: httpsmeshprobe}]}\n",
	} {
		write(t, checkout, path, content)
	}
	return checkout
}

func write(t *testing.T, root, path, content string) string {
	t.Helper()
	full := filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return full
}

func TestAReleaseForAllPlatforms(t *testing.T) {
	checkout := standIn(t)
	b, files := release(t, checkout, pluginPlatforms, imageArchitectures)
	_, again := release(t, checkout, pluginPlatforms, imageArchitectures)

	if !maps.EqualFunc(files, again, bytes.Equal) {
		for name := range files {
			if !bytes.Equal(files[name], again[name]) {
				t.Errorf("built twice, %s is not the same", name)
			}
		}
	}
	checkNames(t, files)
	checkSums(t, b.Output)
	for _, p := range pluginPlatforms {
		checkPluginArchive(t, p, files)
	}
	checkKrewManifest(t, files)
	for name, content := range files {
		if platform, isSBOM := strings.CutSuffix(name, ".cdx.json"); isSBOM {
			checkPlatform(t, name, content, platform[strings.Index(platform, "v1.2.3_")+len("v1.2.3_"):])
		}
	}
	if notes := string(files["RELEASE_NOTES.md"]); notes != "### Added\n- What is new.\n" {
		t.Errorf("the notes say %q", notes)
	}
	if want := "image: registry.example/httpsmeshprobe:v1.2.3@" + b.digest; !strings.Contains(string(files["install.yaml"]), want+"\n") {
		t.Errorf("install.yaml lacks %q:\n%s", want, files["install.yaml"])
	}
	packages := untar(t, files["httpsmeshprobe-1.2.3.tgz"])
	if got, want := string(packages["httpsmeshprobe/Chart.yaml"]), "apiVersion: v2\nname: httpsmeshprobe\nversion: 1.2.3\nappVersion: v1.2.3\n"; got != want {
		t.Errorf("the chart is\n%s", got)
	}
	if got := string(packages["httpsmeshprobe/values.yaml"]); got != "image:\n  repository: registry.example/httpsmeshprobe\nversion: 5\n" {
		t.Errorf("the chart's values became %q", got)
	}
}

func checkNames(t *testing.T, files map[string][]byte) {
	t.Helper()
	want := []string{"RELEASE_NOTES.md", "SHA256SUMS", "httpsmeshprobe-1.2.3.tgz", "httpsmeshprobe_v1.2.3_image.tar", "install.yaml", "meshprobe.yaml"}
	for _, architecture := range imageArchitectures {
		for _, program := range []string{"manager", "probe"} {
			want = append(want, program+"_v1.2.3_linux_"+architecture+".cdx.json")
		}
	}
	for _, p := range pluginPlatforms {
		name := "kubectl-meshprobe_v1.2.3_" + p.String()
		suffix := ".tar.gz"
		if p.OS == "windows" {
			suffix = ".zip"
		}
		want = append(want, name+".cdx.json", name+suffix)
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(files)); !slices.Equal(got, want) {
		t.Errorf("the release holds\n%q, expected\n%q", got, want)
	}
}

// checkSums asks sha256sum, as a user would, and looks whether any file was forgotten.
func checkSums(t *testing.T, output string) {
	t.Helper()
	check := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	check.Dir = output
	out, err := check.CombinedOutput()
	if err != nil {
		t.Errorf("sha256sum: %v\n%s", err, out)
	}
	entries, err := os.ReadDir(output)
	if err != nil {
		t.Fatal(err)
	}
	if sums := strings.Count(string(out), ": OK\n"); sums != len(entries)-1 {
		t.Errorf("%d sums for %d files", sums, len(entries)-1)
	}
}

func checkPluginArchive(t *testing.T, p platform, files map[string][]byte) {
	t.Helper()
	name := "kubectl-meshprobe_v1.2.3_" + p.String()
	program, contents := "kubectl-meshprobe", map[string][]byte(nil)
	if p.OS == "windows" {
		program, contents = program+".exe", unzip(t, files[name+".zip"])
	} else {
		contents = untar(t, files[name+".tar.gz"])
	}
	if want := []string{"LICENSE", program}; !slices.Equal(slices.Sorted(maps.Keys(contents)), want) {
		t.Errorf("%s holds %q, expected %q", name, slices.Sorted(maps.Keys(contents)), want)
	}
	// The first bytes of a Mach-O, an ELF and a Windows program.
	magic := map[string]string{"darwin": "\xcf\xfa\xed\xfe", "linux": "\x7fELF", "windows": "MZ"}[p.OS]
	if !bytes.HasPrefix(contents[program], []byte(magic)) {
		t.Errorf("the program in %s begins with %q", name, contents[program][:4])
	}
	if len(contents["LICENSE"]) == 0 {
		t.Errorf("the license in %s is empty", name)
	}
}

// checkKrewManifest reads the manifest as krew does (sigs.k8s.io/krew/pkg/index, Plugin).
func checkKrewManifest(t *testing.T, files map[string][]byte) {
	t.Helper()
	var manifest struct {
		APIVersion, Kind string
		Metadata         struct{ Name string }
		Spec             struct {
			Version, Homepage, ShortDescription, Description, Caveats string
			Platforms                                                 []struct {
				Selector         struct{ MatchLabels map[string]string }
				URI, SHA256, Bin string
				Files            []struct{ From, To string }
			}
		}
	}
	if err := yaml.UnmarshalStrict(files["meshprobe.yaml"], &manifest); err != nil {
		t.Fatal(err)
	}
	if manifest.Metadata.Name != "meshprobe" || manifest.Spec.Version != "v1.2.3" || len(manifest.Spec.Platforms) != len(pluginPlatforms) {
		t.Errorf("the manifest is for %s %s on %d platforms", manifest.Metadata.Name, manifest.Spec.Version, len(manifest.Spec.Platforms))
	}
	sums := string(files["SHA256SUMS"])
	for _, p := range manifest.Spec.Platforms {
		file := p.URI[strings.LastIndex(p.URI, "/")+1:]
		if !strings.Contains(sums, p.SHA256+"  "+file+"\n") {
			t.Errorf("the manifest has another checksum for %s than SHA256SUMS", file)
		}
		if want := p.Selector.MatchLabels["os"] + "_" + p.Selector.MatchLabels["arch"]; !strings.Contains(file, want) {
			t.Errorf("the manifest sends %s to %s", want, file)
		}
	}
}

// Our own programs, for this machine alone, whose packages other tests have compiled.
func TestAReleaseOfThisCheckout(t *testing.T) {
	here := platform{runtime.GOOS, runtime.GOARCH}
	b, files := release(t, filepath.Join("..", ".."), []platform{here}, []string{here.Architecture})
	checkSums(t, b.Output)

	contents := untar(t, files["kubectl-meshprobe_v1.2.3_"+here.String()+".tar.gz"])
	checkVersion(t, contents["kubectl-meshprobe"], "version")
	layers := untar(t, files["httpsmeshprobe_v1.2.3_image.tar"])
	programs := layerWith(t, layers, "manager")
	checkVersion(t, programs["manager"], "--version")
	checkVersion(t, programs["probe"], "version")

	for program, modules := range map[string][]string{
		"manager_v1.2.3_":           {"sigs.k8s.io/controller-runtime", "k8s.io/client-go"},
		"probe_v1.2.3_":             {"std"},
		"kubectl-meshprobe_v1.2.3_": {"github.com/spf13/cobra", "k8s.io/client-go"},
	} {
		checkSBOM(t, files[program+here.String()+".cdx.json"], modules)
	}
	for _, name := range []string{"install.yaml", "install-namespaced.yaml"} {
		content := string(files[name])
		if strings.Count(content, "kind: CustomResourceDefinition\n") != 1 || !strings.Contains(content, "image: "+b.Image+":v1.2.3@"+b.digest+"\n") {
			t.Errorf("%s lacks the resource definition, or the image of the release", name)
		}
	}
	checkChart(t, b)
}

// checkChart has Helm render the chart as it is packed.
func checkChart(t *testing.T, b *build) {
	t.Helper()
	helm := filepath.Join("..", "..", "bin", "helm")
	if _, err := os.Stat(helm); err != nil {
		t.Log("there is no bin/helm: the chart is not rendered")
		return
	}
	rendered, err := exec.CommandContext(t.Context(), helm, "template", "tried", filepath.Join(b.Output, "httpsmeshprobe-1.2.3.tgz")).CombinedOutput()
	if err != nil || !strings.Contains(string(rendered), "image: "+b.Image+":v1.2.3\n") || !strings.Contains(string(rendered), "helm.sh/chart: httpsmeshprobe-1.2.3\n") {
		t.Errorf("the chart does not render to the release's image: %v\n%s", err, rendered)
	}
}

func checkVersion(t *testing.T, program []byte, argument string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), path, argument).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "v1.2.3") {
		t.Errorf("%s prints %q (%v)", argument, out, err)
	}
}

// checkPlatform looks whether an SBOM is about a program for a platform.
func checkPlatform(t *testing.T, name string, content []byte, want string) {
	t.Helper()
	var sbom struct {
		Metadata struct{ Component struct{ PURL string } }
	}
	if err := yaml.Unmarshal(content, &sbom); err != nil {
		t.Fatal(err)
	}
	purl, err := url.Parse(sbom.Metadata.Component.PURL)
	if err != nil {
		t.Fatal(err)
	}
	if got := purl.Query().Get("goos") + "_" + purl.Query().Get("goarch"); got != want {
		t.Errorf("%s is about %s", name, sbom.Metadata.Component.PURL)
	}
}

func checkSBOM(t *testing.T, content []byte, modules []string) {
	t.Helper()
	var sbom struct {
		BOMFormat, SpecVersion string
		Metadata               struct{ Component struct{ Version string } }
		Components             []struct{ Name, Version, PURL string }
	}
	if err := yaml.Unmarshal(content, &sbom); err != nil {
		t.Fatal(err)
	}
	if sbom.BOMFormat != "CycloneDX" || sbom.SpecVersion == "" || sbom.Metadata.Component.Version != "v1.2.3" {
		t.Errorf("the SBOM is %s %s of version %s", sbom.BOMFormat, sbom.SpecVersion, sbom.Metadata.Component.Version)
	}
	known := map[string]bool{}
	for _, component := range sbom.Components {
		known[component.Name] = component.Version != "" && component.PURL != ""
	}
	for _, module := range modules {
		if !known[module] {
			t.Errorf("the SBOM lacks %s, or its version", module)
		}
	}
}

// layerWith is the content of the layer, among the blobs of an image layout, that holds a file.
func layerWith(t *testing.T, blobs map[string][]byte, file string) map[string][]byte {
	t.Helper()
	for _, blob := range blobs {
		if bytes.HasPrefix(blob, []byte("\x1f\x8b")) {
			if content := untar(t, blob); content[file] != nil {
				return content
			}
		}
	}
	t.Fatalf("no layer holds %s", file)
	return nil
}

func untar(t *testing.T, content []byte) map[string][]byte {
	t.Helper()
	var from io.Reader = bytes.NewReader(content)
	if bytes.HasPrefix(content, []byte("\x1f\x8b")) {
		decompressed, err := gzip.NewReader(from)
		if err != nil {
			t.Fatal(err)
		}
		from = decompressed
	}
	files := map[string][]byte{}
	for archive := tar.NewReader(from); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[header.Name], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
	}
}

func unzip(t *testing.T, content []byte) map[string][]byte {
	t.Helper()
	archive, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, entry := range archive.File {
		file, err := entry.Open()
		if err != nil {
			t.Fatal(err)
		}
		if files[entry.Name], err = io.ReadAll(file); err != nil {
			t.Fatal(err)
		}
		file.Close()
	}
	return files
}

func TestAVersionNeedsItsSection(t *testing.T) {
	path := write(t, t.TempDir(), "CHANGELOG.md", changelog+"\n## [1.2.1] - 2025-12-31\n")
	for number, says := range map[string]string{
		"1.2.4": `has no section "## [1.2.4] - YYYY-MM-DD"`,
		"1.2":   "has no section",
		"1.2.1": "says nothing of version 1.2.1",
	} {
		if _, err := changelogSection(path, number); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", number, err)
		}
	}
	if section, err := changelogSection(path, "1.2.2"); err != nil || section != "### Fixed\n- What is old.\n" {
		t.Errorf("1.2.2 says %q: %v", section, err)
	}
}

func TestVersions(t *testing.T) {
	for text, want := range map[string]string{"1.2.3": "v1.2.3", "v1.2.3": "v1.2.3", "1.0.0-rc.1": "v1.0.0-rc.1", "": "", "1.2": "", "01.2.3": "", "1.2.3+x": "", "latest": ""} {
		var b build
		err := b.takeVersion(text)
		if (err == nil) != (want != "") || want != "" && b.Version != want {
			t.Errorf("%q became %q: %v", text, b.Version, err)
		}
	}
}

func TestARepositoryIsNotEmptied(t *testing.T) {
	checkout := standIn(t)
	if err := emptyFolder(checkout); err == nil {
		t.Error("a repository was emptied")
	}
	if _, err := os.Stat(filepath.Join(checkout, "LICENSE")); err != nil {
		t.Error(err)
	}
}

func TestUncommittedChangesAreRefused(t *testing.T) {
	checkout := standIn(t)
	for _, args := range [][]string{{"init", "-q"}, {"add", "-A"}, {"-c", "user.name=Test", "-c", "user.email=test@example.test", "commit", "-q", "-m", "All."}} {
		if _, err := git(t.Context(), checkout, args...); err != nil {
			t.Fatal(err)
		}
	}
	b := build{Checkout: checkout}
	if err := b.readCommit(t.Context()); err != nil || len(b.Revision) != 40 || time.Since(b.Time) > time.Hour {
		t.Errorf("commit %s of %s: %v", b.Revision, b.Time, err)
	}
	b.Output = t.TempDir()
	sums := write(t, b.Output, "SHA256SUMS", "none")
	if err := b.confirmCommit(t.Context()); err != nil {
		t.Error(err)
	}
	write(t, checkout, "main.go", "package main\n")
	if err := b.confirmCommit(t.Context()); err == nil {
		t.Error("a checkout that changed meanwhile passes")
	}
	if _, err := os.Stat(sums); err == nil {
		t.Error("a release of two commits keeps its checksums")
	}
	if err := b.readCommit(t.Context()); err == nil || !strings.Contains(err.Error(), "main.go") {
		t.Errorf("changed files pass: %v", err)
	}
}
