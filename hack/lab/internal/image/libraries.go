package image

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
)

// libraryDirs are where Debian's loader looks.
var libraryDirs = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"}

// Libraries returns entries for the loader and all shared libraries that the
// programs need, taken from a Debian root file system.
func Libraries(root string, programs ...string) ([]Entry, error) {
	found := map[string]Entry{}
	for queue := programs; len(queue) > 0; queue = queue[1:] {
		needed, err := neededBy(queue[0])
		if err != nil {
			return nil, err
		}
		for _, library := range needed {
			if _, ok := found[library]; ok {
				continue
			}
			source, err := findLibrary(root, library)
			if err != nil {
				return nil, fmt.Errorf("%s needs a library that is not there: %w", queue[0], err)
			}
			found[library] = Entry{Path: filepath.Join("/lib/x86_64-linux-gnu", library), Source: source, Mode: 0o755}
			queue = append(queue, source)
		}
	}
	loader := "ld-linux-x86-64.so.2"
	source, err := findLibrary(root, loader)
	if err != nil {
		return nil, err
	}
	delete(found, loader)
	entries := []Entry{{Path: "/lib64/" + loader, Source: source, Mode: 0o755}}
	for _, entry := range found {
		entries = append(entries, entry)
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Path < entries[j].Path })
	return entries, nil
}

// neededBy reads which libraries a program or library asks for; a static one
// asks for none.
func neededBy(path string) ([]string, error) {
	file, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the program %s: %w", path, err)
	}
	defer file.Close()
	needed, err := file.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("cannot read what %s needs: %w", path, err)
	}
	return needed, nil
}

func findLibrary(root, library string) (string, error) {
	for _, dir := range libraryDirs {
		path, err := ResolveIn(root, filepath.Join(dir, library))
		if err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no %s in %s", library, root)
}

// ResolveIn follows symbolic links as a process would whose root is root, and
// returns where the file really lies.
func ResolveIn(root, path string) (string, error) {
	for range 40 {
		resolved, changed, err := resolveOnce(root, path)
		if err != nil {
			return "", err
		}
		if !changed {
			return filepath.Join(root, resolved), nil
		}
		path = resolved
	}
	return "", errors.New("too many links on the way to " + path)
}

// resolveOnce replaces the first link on the way to path by what it points to.
func resolveOnce(root, path string) (string, bool, error) {
	path = filepath.Clean("/" + path)
	for end := 1; end <= len(path); end++ {
		if end < len(path) && path[end] != '/' {
			continue
		}
		info, err := os.Lstat(filepath.Join(root, path[:end]))
		if err != nil {
			return "", false, err
		}
		if info.Mode()&os.ModeSymlink == 0 {
			continue
		}
		target, err := os.Readlink(filepath.Join(root, path[:end]))
		if err != nil {
			return "", false, err
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path[:end]), target)
		}
		return filepath.Join(target, path[end:]), true, nil
	}
	return path, false, nil
}
