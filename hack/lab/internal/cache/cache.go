// Package cache is the lab's place on disk: what was built, the state of the
// running labs, and logs, all in the user's cache directory. Nothing the lab
// makes lies elsewhere.
//
//	products/NAME-KEY/   finished; never changed again
//	unfinished/NAME-KEY/ being built, or left over from a build that was cut off
//	instances/NAME/      one lab
//	logs/STAGE.log       the last run of a build stage
package cache

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Dir is the lab's cache directory.
type Dir struct{ root string }

// Place is the environment variable that names another cache directory.
const Place = "HTTPSMESHPROBE_LAB_CACHE"

// Open finds the cache directory and makes it where it is missing.
func Open() (Dir, error) {
	if place := os.Getenv(Place); place != "" {
		return OpenAt(place)
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return Dir{}, fmt.Errorf("cannot find your cache directory (%w): set HOME or XDG_CACHE_HOME", err)
	}
	return OpenAt(filepath.Join(base, "httpsmeshprobe-lab"))
}

// OpenAt uses root as the cache directory.
func OpenAt(root string) (Dir, error) {
	for _, sub := range []string{"products", "unfinished", "instances", "logs"} {
		if err := os.MkdirAll(filepath.Join(root, sub), 0o755); err != nil {
			return Dir{}, fmt.Errorf("cannot make the lab's cache directory: %w", err)
		}
	}
	return Dir{root: root}, nil
}

// Path is the cache directory itself.
func (d Dir) Path() string { return d.root }

// Log is the file that a build stage writes to.
func (d Dir) Log(stage string) string { return filepath.Join(d.root, "logs", stage+".log") }

// Instances is the directory that holds one directory for each lab.
func (d Dir) Instances() string { return filepath.Join(d.root, "instances") }

// Instance is the directory of the lab called name.
func (d Dir) Instance(name string) string { return filepath.Join(d.root, "instances", name) }

// FreeBytes is how much the cache directory's file system can still take.
func (d Dir) FreeBytes() (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(d.root, &fs); err != nil {
		return 0, fmt.Errorf("cannot ask for the free space under %s: %w", d.root, err)
	}
	return fs.Bavail * uint64(fs.Bsize), nil
}
