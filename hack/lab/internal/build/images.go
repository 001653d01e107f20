package build

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/cache"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/image"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/node"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/progress"
	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/versions"
)

//go:embed images.go
var imagesRecipe string

// importedDir is containerd's directory in the product that Images makes.
const importedDir = "containerd"

// Images returns a directory of containerd's with the lab's images in it,
// unpacked. Each lab starts from a copy of it, which costs next to nothing
// because the files are shared.
func (b *Builder) Images(ctx context.Context, p Products) (string, error) {
	dir, err := b.ensure(ctx, recipe{
		product: imagesProduct(p),
		doing:   "assembling and importing the container images",
		make: func(ctx context.Context, dir string, stage *progress.Stage, log *os.File) error {
			archive := filepath.Join(dir, "images.tar")
			if err := assemble(p, dir, archive); err != nil {
				return err
			}
			stage.Say("assembled; importing them into containerd")
			if err := b.importImages(ctx, p, dir, archive, log); err != nil {
				return err
			}
			return removeAllButImported(dir)
		},
	})
	return filepath.Join(dir, importedDir), err
}

func imagesProduct(p Products) cache.Product {
	return cache.Product{Name: "images", Key: cache.Key(imagesRecipe, image.Recipe(), p.Programs, p.RootFS, p.Envoy,
		versions.PauseImage, versions.NginxImage, versions.CurlImage, versions.PilotImage, versions.ProxyImage, versions.ProxyImageBare)}
}

// searchPath is what every image with programs of Debian's has.
const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func assemble(p Products, dir, archive string) error {
	debian, err := image.LayerFromTar(filepath.Join(p.RootFS, imageRootTar))
	if err != nil {
		return err
	}
	program := func(name string) image.Entry {
		return image.Entry{Path: "/usr/local/bin/" + name, Source: filepath.Join(p.Programs, name), Mode: 0o755}
	}
	proxy := []image.Entry{
		program("pilot-agent"),
		{Path: "/usr/local/bin/envoy", Source: filepath.Join(p.Envoy, "envoy"), Mode: 0o755},
		{Path: "/var/lib/istio/envoy/envoy_bootstrap_tmpl.json", Source: filepath.Join(p.Programs, "envoy_bootstrap.json"), Mode: 0o644},
	}
	bare, err := bareSystem(filepath.Join(p.RootFS, nodeRootDir), filepath.Join(p.Envoy, "envoy"))
	if err != nil {
		return err
	}
	var layers [5]v1.Layer
	for n, contents := range []struct {
		name    string
		entries []image.Entry
	}{
		{"pause", []image.Entry{{Path: "/pause", Source: filepath.Join(p.Programs, "pause"), Mode: 0o755}}},
		{"nginx-logs", nginxLogs()},
		{"pilot", []image.Entry{program("pilot-discovery")}},
		{"proxy", proxy},
		{"bare-system", bare},
	} {
		if layers[n], err = image.LayerOf(dir, contents.name, contents.entries); err != nil {
			return err
		}
	}
	return image.WriteAll(archive, labImages(debian, layers))
}

func labImages(debian v1.Layer, layers [5]v1.Layer) []image.Image {
	pause, nginxLogs, pilot, proxy, bare := layers[0], layers[1], layers[2], layers[3], layers[4]
	environment := []string{searchPath}
	agent := v1.Config{Entrypoint: []string{"/usr/local/bin/pilot-agent"}, Env: environment, WorkingDir: "/"}
	return []image.Image{
		{Tag: versions.PauseImage, Layers: []v1.Layer{pause}, Config: v1.Config{Entrypoint: []string{"/pause"}, User: "65535:65535"}},
		{Tag: versions.NginxImage, Layers: []v1.Layer{debian, nginxLogs},
			Config: v1.Config{Cmd: []string{"nginx", "-g", "daemon off;"}, Env: environment, StopSignal: "SIGQUIT"}},
		{Tag: versions.CurlImage, Layers: []v1.Layer{debian}, Config: v1.Config{Cmd: []string{"curl", "--help"}, Env: environment}},
		{Tag: versions.PilotImage, Layers: []v1.Layer{debian, pilot},
			Config: v1.Config{Entrypoint: []string{"/usr/local/bin/pilot-discovery"}, Env: environment, User: "1337:1337"}},
		{Tag: versions.ProxyImage, Layers: []v1.Layer{debian, proxy}, Config: agent},
		{Tag: versions.ProxyImageBare, Layers: []v1.Layer{bare, proxy}, Config: agent},
	}
}

// nginxLogs send what nginx logs to where kubectl logs looks.
func nginxLogs() []image.Entry {
	return []image.Entry{
		{Path: "/var/log/nginx/access.log", Link: "/dev/stdout"},
		{Path: "/var/log/nginx/error.log", Link: "/dev/stderr"},
	}
}

// bareSystem is all that pilot-agent and Envoy need of a system: libraries,
// certificates, and iptables for the init container. No shell, no curl.
func bareSystem(debian, envoy string) ([]image.Entry, error) {
	tables := []string{"xtables-nft-multi", "xtables-legacy-multi"}
	programs := []string{envoy}
	entries := []image.Entry{{Path: "/tmp", Mode: 0o1777}, {Path: "/run", Mode: 0o755}}
	for _, name := range tables {
		source := filepath.Join(debian, "usr/sbin", name)
		programs = append(programs, source)
		entries = append(entries, image.Entry{Path: "/usr/sbin/" + name, Source: source, Mode: 0o755})
	}
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, action := range []string{"", "-save", "-restore"} {
			entries = append(entries,
				image.Entry{Path: "/usr/sbin/" + family + action, Link: "xtables-nft-multi"},
				image.Entry{Path: "/usr/sbin/" + family + "-nft" + action, Link: "xtables-nft-multi"},
				image.Entry{Path: "/usr/sbin/" + family + "-legacy" + action, Link: "xtables-legacy-multi"})
		}
	}
	libraries, err := image.Libraries(debian, programs...)
	if err != nil {
		return nil, err
	}
	plugins, err := filepath.Glob(filepath.Join(debian, "usr/lib/x86_64-linux-gnu/xtables/*.so"))
	if err != nil || len(plugins) == 0 {
		return nil, fmt.Errorf("there are no iptables extensions in %s", debian)
	}
	for _, plugin := range plugins {
		entries = append(entries, image.Entry{Path: "/usr/lib/x86_64-linux-gnu/xtables/" + filepath.Base(plugin), Source: plugin, Mode: 0o644})
	}
	for _, file := range []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/protocols"} {
		if source, err := image.ResolveIn(debian, file); err == nil {
			entries = append(entries, image.Entry{Path: file, Source: source, Mode: 0o644})
		}
	}
	return append(entries, libraries...), nil
}

// importImages has this program run containerd in namespaces of its own, which
// take all that containerd starts and mounts with them when it ends.
func (b *Builder) importImages(ctx context.Context, p Products, dir, archive string, log *os.File) error {
	imported := filepath.Join(dir, importedDir)
	if err := os.Mkdir(imported, 0o711); err != nil {
		return fmt.Errorf("cannot make containerd's directory: %w", err)
	}
	self := exec.Command(b.Self, node.ImportStep, filepath.Join(p.RootFS, nodeRootDir), filepath.Join(dir, "root"), archive, imported)
	self.Dir = "/"
	self.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC,
	}
	return runLogged(ctx, log, self)
}

func removeAllButImported(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cannot tidy up after the images: %w", err)
	}
	for _, entry := range entries {
		if entry.Name() == importedDir {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return fmt.Errorf("cannot tidy up after the images: %w", err)
		}
	}
	return nil
}
