package instance

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseStartTime(t *testing.T) {
	rest := strings.Repeat("0 ", 18) + "4242 99 99"
	for _, c := range []struct {
		stat string
		want uint64
		ok   bool
	}{
		{"17 (lab) S " + rest, 4242, true},
		{"17 (a name) with (parens) S " + rest, 4242, true},
		{"17 (lab) Z " + rest, 0, false},
		{"17 (lab) S 1 2", 0, false},
		{"garbage", 0, false},
	} {
		got, err := parseStartTime(c.stat)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("parseStartTime(%q) = %d, %v", c.stat, got, err)
		}
	}
}

func TestIdentityTellsProcessesApart(t *testing.T) {
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	id, err := identify(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "node.pid")
	if err := id.write(path); err != nil {
		t.Fatal(err)
	}
	read, err := readIdentity(path)
	if err != nil || read != id || !read.alive() {
		t.Errorf("wrote %+v and read %+v (%v), alive: %v", id, read, err, read.alive())
	}
	other := id
	other.Started++
	if other.alive() {
		t.Error("another process that got the same number passed for this one")
	}
	earlier := id
	earlier.Boot = "a run of the machine before this"
	if earlier.alive() {
		t.Error("a process of an earlier run of the machine passed for a living one")
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	if id.alive() {
		t.Error("a process that has ended passes for a living one")
	}
}
