// Package image assembles container images from files, without a container
// engine.
package image

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path"
	"sort"
	"strings"
)

// Entry is one thing in a layer, at an absolute path.
type Entry struct {
	Path string
	// Source is the file whose content it gets. Link is where it points instead.
	// Without either it is a directory.
	Source, Link string
	Mode         int64
}

// Pack writes a layer. It holds nothing that changes from build to build: no
// times, and only root as an owner.
func Pack(to io.Writer, entries []Entry) error {
	entries = withParents(entries)
	archive := tar.NewWriter(to)
	for _, entry := range entries {
		if err := pack(archive, entry); err != nil {
			return fmt.Errorf("cannot pack %s into a layer: %w", entry.Path, err)
		}
	}
	return archive.Close()
}

func pack(archive *tar.Writer, entry Entry) error {
	header := &tar.Header{Name: strings.TrimPrefix(entry.Path, "/"), Mode: entry.Mode, Format: tar.FormatPAX}
	switch {
	case entry.Link != "":
		header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, entry.Link, 0o777
		return archive.WriteHeader(header)
	case entry.Source == "":
		header.Typeflag, header.Name = tar.TypeDir, header.Name+"/"
		return archive.WriteHeader(header)
	}
	file, err := os.Open(entry.Source)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	header.Typeflag, header.Size = tar.TypeReg, info.Size()
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(archive, file)
	return err
}

// withParents adds the directories above the entries, and sorts all so that a
// directory comes before what is in it.
func withParents(entries []Entry) []Entry {
	all := map[string]Entry{}
	for _, entry := range entries {
		for dir := path.Dir(entry.Path); dir != "/"; dir = path.Dir(dir) {
			if _, ok := all[dir]; !ok {
				all[dir] = Entry{Path: dir, Mode: 0o755}
			}
		}
	}
	for _, entry := range entries {
		all[entry.Path] = entry
	}
	sorted := make([]Entry, 0, len(all))
	for _, entry := range all {
		sorted = append(sorted, entry)
	}
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].Path < sorted[j].Path })
	return sorted
}
