package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Product is something built once and kept: a directory under a name, keyed by
// everything that decides what is in it.
type Product struct {
	Name string
	Key  string
}

// Key condenses what decides a product's content into a few characters.
func Key(parts ...string) string {
	sum := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(sum, "%d:%s\n", len(part), part)
	}
	return hex.EncodeToString(sum.Sum(nil))[:12]
}

// Where is the directory of a finished product.
func (d Dir) Where(p Product) string {
	return filepath.Join(d.root, "products", p.Name+"-"+p.Key)
}

// Has reports whether the product is finished.
func (d Dir) Has(p Product) bool {
	_, err := os.Stat(d.Where(p))
	return err == nil
}

// Ensure returns the product's directory and builds it first where it is
// missing. build fills an empty directory, which gets its final name only when
// it is complete and on disk: whatever was cut off is never mistaken for it.
func (d Dir) Ensure(p Product, waiting func(), build func(dir string) error) (string, error) {
	if d.Has(p) {
		return d.Where(p), nil
	}
	unfinished := filepath.Join(d.root, "unfinished", p.Name+"-"+p.Key)
	unlock, err := Lock(unfinished+".lock", waiting)
	if err != nil {
		return "", err
	}
	defer unlock()
	if d.Has(p) {
		return d.Where(p), nil
	}
	if err := emptyDir(unfinished); err != nil {
		return "", err
	}
	if err := build(unfinished); err != nil {
		return "", err
	}
	if err := syncFileSystem(unfinished); err != nil {
		return "", err
	}
	if err := os.Rename(unfinished, d.Where(p)); err != nil {
		return "", fmt.Errorf("cannot put the finished %s in its place: %w", p.Name, err)
	}
	return d.Where(p), nil
}

// Prune removes the finished products that keep does not want, and returns their
// names.
func (d Dir) Prune(keep func(dir string) bool) ([]string, error) {
	all, err := filepath.Glob(filepath.Join(d.root, "products", "*"))
	if err != nil {
		return nil, fmt.Errorf("cannot list what was built: %w", err)
	}
	var removed []string
	for _, dir := range all {
		if keep(dir) {
			continue
		}
		// What is half removed must not look finished.
		doomed := filepath.Join(d.root, "unfinished", filepath.Base(dir))
		if err := os.RemoveAll(doomed); err != nil {
			return removed, fmt.Errorf("cannot remove what an earlier build left: %w", err)
		}
		if err := os.Rename(dir, doomed); err != nil {
			return removed, fmt.Errorf("cannot take %s out of use: %w", dir, err)
		}
		if err := os.RemoveAll(doomed); err != nil {
			return removed, fmt.Errorf("cannot remove %s: %w", doomed, err)
		}
		removed = append(removed, filepath.Base(dir))
	}
	return removed, nil
}

func emptyDir(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("cannot remove what an earlier build left: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make a directory to build in: %w", err)
	}
	return nil
}

// syncFileSystem keeps a power cut from leaving a renamed directory with empty
// files in it.
func syncFileSystem(dir string) error {
	handle, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("cannot open what was built: %w", err)
	}
	defer handle.Close()
	if err := unix.Syncfs(int(handle.Fd())); err != nil {
		return fmt.Errorf("cannot write what was built to disk: %w", err)
	}
	return nil
}
