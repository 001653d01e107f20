package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// packed is one file of an archive.
type packed struct {
	name    string
	content []byte
	mode    fs.FileMode
}

// writeTarGz writes files in their order, all of one time and owned by root.
func writeTarGz(path string, files []packed, when time.Time) error {
	return writeFile(path, func(to io.Writer) error {
		compressed, err := gzip.NewWriterLevel(to, gzip.BestCompression)
		if err != nil {
			return err
		}
		return errors.Join(writeTar(compressed, files, when), compressed.Close())
	})
}

func writeTar(to io.Writer, files []packed, when time.Time) error {
	archive := tar.NewWriter(to)
	for _, file := range files {
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: file.name, Size: int64(len(file.content)), Mode: int64(file.mode),
			ModTime: when.UTC().Truncate(time.Second), Format: tar.FormatUSTAR,
		}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(file.content); err != nil {
			return err
		}
	}
	return archive.Close()
}

func writeZip(path string, files []packed, when time.Time) error {
	return writeFile(path, func(to io.Writer) error {
		archive := zip.NewWriter(to)
		for _, file := range files {
			header := &zip.FileHeader{Name: file.name, Method: zip.Deflate, Modified: when.UTC().Truncate(time.Second)}
			header.SetMode(file.mode)
			entry, err := archive.CreateHeader(header)
			if err != nil {
				return err
			}
			if _, err := entry.Write(file.content); err != nil {
				return err
			}
		}
		return archive.Close()
	})
}

func writeFile(path string, write func(io.Writer) error) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(file), file.Close())
}

// folder reads all files below root, in the order of their names, each called by its path there below prefix.
func folder(root, prefix string) ([]packed, error) {
	var files []packed
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name := prefix + filepath.ToSlash(strings.TrimPrefix(path, root+string(filepath.Separator)))
		files = append(files, packed{name: name, content: content, mode: 0o644})
		return nil
	})
	return files, err
}
