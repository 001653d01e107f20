package image

import (
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Image is what a container is started from.
type Image struct {
	Tag    string
	Layers []v1.Layer
	Config v1.Config
}

// LayerFromTar makes a layer of a tar archive, which must stay where it is until
// the image is written.
func LayerFromTar(path string) (v1.Layer, error) {
	// The images only travel from one directory to the next: packing them tightly
	// would cost more time than it saves.
	layer, err := tarball.LayerFromFile(path, tarball.WithCompressionLevel(gzip.NoCompression))
	if err != nil {
		return nil, fmt.Errorf("cannot make a layer of %s: %w", path, err)
	}
	return layer, nil
}

// LayerOf packs entries into a layer, by way of a file of that name in dir.
func LayerOf(dir, name string, entries []Entry) (v1.Layer, error) {
	path := filepath.Join(dir, name+".tar")
	if err := packFile(path, entries); err != nil {
		return nil, fmt.Errorf("cannot write the layer %s: %w", name, err)
	}
	return LayerFromTar(path)
}

func packFile(path string, entries []Entry) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(Pack(file, entries), file.Close())
}

// WriteAll writes images into one archive, in which each layer lies once.
func WriteAll(path string, images []Image) error {
	tagged := map[name.Reference]v1.Image{}
	for _, image := range images {
		tag, err := name.NewTag(image.Tag, name.StrictValidation)
		if err != nil {
			return fmt.Errorf("the image name %q does not do: %w", image.Tag, err)
		}
		built, err := image.build()
		if err != nil {
			return fmt.Errorf("cannot assemble the image %s: %w", image.Tag, err)
		}
		tagged[tag] = built
	}
	if err := tarball.MultiRefWriteToFile(path, tagged); err != nil {
		return fmt.Errorf("cannot write the image archive %s: %w", path, err)
	}
	return nil
}

func (i Image) build() (v1.Image, error) {
	return assemble(empty.Image, runtime.GOARCH, i.Config, v1.Time{}, i.Layers...)
}

// assemble puts layers on a base, and says what the image is for.
func assemble(base v1.Image, architecture string, settings v1.Config, created v1.Time, layers ...v1.Layer) (v1.Image, error) {
	layered, err := mutate.AppendLayers(base, layers...)
	if err != nil {
		return nil, err
	}
	config, err := layered.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", architecture
	config.Created = created
	config.Config = settings
	return mutate.ConfigFile(layered, config)
}
