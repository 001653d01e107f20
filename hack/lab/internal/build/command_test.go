package build

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func newLog(t *testing.T) *os.File {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "stage.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	return log
}

func TestFailureNamesTheCauseAndTheLog(t *testing.T) {
	for _, c := range []struct{ prints, want string }{
		{"go: reading module: dial tcp: lookup mirror.test: no such host", "a package registry could not be reached"},
		{"write /tmp/x: no space left on device", "the disk is full"},
		{"ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "not what was pinned"},
		{"go: go.mod requires go >= 1.26.0 (running go 1.24.1)", "Go is too old"},
		{"something nobody foresaw", "exit status 3"},
	} {
		log := newLog(t)
		err := runLogged(context.Background(), log, exec.Command("sh", "-c", "echo '"+c.prints+"' >&2; exit 3"))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), log.Name()) {
			t.Errorf("a program that printed %q failed with %v, expected %q and the log's name", c.prints, err, c.want)
		}
	}
}

func TestInterruptionEndsTheWholeGroup(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(100*time.Millisecond, cancel)
	start := time.Now()
	err := runLogged(ctx, newLog(t), exec.Command("sh", "-c", "sleep 60 & wait"))
	if err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("an interrupted program ended with %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s to end an interrupted program", took)
	}
}

func TestSideBySideReturnsTheFirstErrorAndStopsTheOthers(t *testing.T) {
	err := sideBySide(context.Background(),
		func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		func(context.Context) error { return os.ErrPermission },
	)
	if err != os.ErrPermission {
		t.Errorf("got %v, expected the first error", err)
	}
}
