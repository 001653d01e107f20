package image

import (
	"compress/gzip"
	"fmt"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// refName is the annotation that gives an image of a layout its name (OCI image-spec, annotations.md).
const refName = "org.opencontainers.image.ref.name"

// ForPlatform is an image for Linux on one architecture, called as Go calls it.
type ForPlatform struct {
	Architecture string
	Entries      []Entry
	Config       v1.Config
	Created      time.Time
}

// WriteIndex writes an OCI image layout with one index of images into the directory to, names the index ref, and returns
// its digest. What is written depends on the arguments and the entries' content alone. scratch is a directory for the
// layers, which lie there until the caller removes it.
func WriteIndex(to, scratch, ref string, images []ForPlatform) (v1.Hash, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, one := range images {
		built, err := one.build(scratch)
		if err != nil {
			return v1.Hash{}, fmt.Errorf("cannot assemble the image for %s: %w", one.Architecture, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        built,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: one.Architecture}},
		})
	}
	written, err := layout.Write(to, empty.Index)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("cannot write the image layout %s: %w", to, err)
	}
	if err := written.AppendIndex(index, layout.WithAnnotations(map[string]string{refName: ref})); err != nil {
		return v1.Hash{}, fmt.Errorf("cannot write the image layout %s: %w", to, err)
	}
	return index.Digest()
}

func (p ForPlatform) build(scratch string) (v1.Image, error) {
	path := filepath.Join(scratch, p.Architecture+".tar")
	if err := packFile(path, p.Entries); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromFile(path, tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.BestCompression))
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	return assemble(base, p.Architecture, p.Config, v1.Time{Time: p.Created}, layer)
}
