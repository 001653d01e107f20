package cache

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func newDir(t *testing.T) Dir {
	t.Helper()
	d, err := OpenAt(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func noWait() {}

func TestEnsureBuildsOnce(t *testing.T) {
	d := newDir(t)
	p := Product{"thing", Key("1")}
	builds := 0
	build := func(dir string) error {
		builds++
		return os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o644)
	}
	for range 3 {
		dir, err := d.Ensure(p, noWait, build)
		if err != nil {
			t.Fatal(err)
		}
		if content, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(content) != "content" {
			t.Fatalf("the product holds %q (%v)", content, err)
		}
	}
	if builds != 1 {
		t.Errorf("built %d times", builds)
	}
}

func TestEnsureTrustsNothingUnfinished(t *testing.T) {
	d := newDir(t)
	p := Product{"thing", Key("1")}
	broken := errors.New("the compiler was killed")
	_, err := d.Ensure(p, noWait, func(dir string) error {
		if err := os.WriteFile(filepath.Join(dir, "half"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		return broken
	})
	if !errors.Is(err, broken) || d.Has(p) {
		t.Fatalf("a build that failed with %v left a product: %v", err, d.Has(p))
	}
	dir, err := d.Ensure(p, noWait, func(dir string) error {
		entries, err := os.ReadDir(dir)
		if len(entries) > 0 {
			t.Errorf("the second build found %v of the first", entries)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
}

func TestEnsureLetsOneBuildAtATime(t *testing.T) {
	d := newDir(t)
	p := Product{"thing", Key("1")}
	var builds, waited atomic.Int32
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			_, err := d.Ensure(p, func() { waited.Add(1) }, func(string) error {
				builds.Add(1)
				time.Sleep(50 * time.Millisecond)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if builds.Load() != 1 {
		t.Errorf("built %d times at once", builds.Load())
	}
}

func TestPruneKeepsWhatIsWanted(t *testing.T) {
	d := newDir(t)
	old, current := Product{"thing", Key("1")}, Product{"thing", Key("2")}
	for _, p := range []Product{old, current} {
		if _, err := d.Ensure(p, noWait, func(string) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	removed, err := d.Prune(func(dir string) bool { return dir == d.Where(current) })
	if err != nil || len(removed) != 1 || d.Has(old) || !d.Has(current) {
		t.Errorf("removed %v (%v); old there: %v, current there: %v", removed, err, d.Has(old), d.Has(current))
	}
}

func TestKeyTellsPartsApart(t *testing.T) {
	if Key("ab", "c") == Key("a", "bc") {
		t.Error("the same characters in other parts have the same key")
	}
	if first, second := Key("a"), Key("a"); first != second {
		t.Error("a key is not always the same")
	}
}
