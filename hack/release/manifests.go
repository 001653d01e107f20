package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// manifests are the files for kubectl apply, by the folder of config that each is rendered from.
var manifests = map[string]string{
	"default":    "install.yaml",
	"namespaced": "install-namespaced.yaml",
}

// renderManifests renders folders of config with the image of this release, by tag and digest.
func (b *build) renderManifests(context.Context) error {
	files := filesys.MakeFsInMemory()
	config, err := folder(filepath.Join(b.Checkout, "config"), "/config/")
	if err != nil {
		return err
	}
	for _, file := range config {
		if err := files.WriteFile(file.name, file.content); err != nil {
			return err
		}
	}
	for source, target := range manifests {
		if _, err := os.Stat(filepath.Join(b.Checkout, "config", source)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := b.render(files, source, filepath.Join(b.Output, target)); err != nil {
			return fmt.Errorf("config/%s: %w", source, err)
		}
	}
	return nil
}

func (b *build) render(files filesys.FileSystem, source, target string) error {
	overlay, err := yaml.Marshal(map[string]any{
		"resources": []string{"../config/" + source},
		"images": []map[string]string{{
			"name": "httpsmeshprobe", "newName": b.Image, "newTag": b.Version, "digest": b.digest,
		}},
	})
	if err != nil {
		return err
	}
	if err := files.WriteFile("/release/kustomization.yaml", overlay); err != nil {
		return err
	}
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, "/release")
	if err != nil {
		return err
	}
	content, err := rendered.AsYaml()
	if err != nil {
		return err
	}
	return os.WriteFile(target, content, 0o644)
}
