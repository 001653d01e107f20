package progress

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

// clock is a time that moves only when told.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func TestStagesAndTable(t *testing.T) {
	var out bytes.Buffer
	c := &clock{time.Unix(1000, 0)}
	r := New(&out, c.now)
	r.Skip("envoy", "kept from before")
	compile := r.Start("programs", "compiling")
	c.at = c.at.Add(90 * time.Second)
	images := r.Start("images", "assembling")
	c.at = c.at.Add(1500 * time.Millisecond)
	images.End(errors.New("the disk is full"))
	compile.End(nil)
	r.Table()

	want := strings.Join([]string{
		"[  0.0s] programs       compiling",
		"[ 1m30s] images         assembling",
		"[ 1m32s] images         failed after 1.5s: the disk is full",
		"[ 1m32s] programs       done in 1m32s",
		"  envoy                 -  kept from before",
		"  programs          1m32s  done",
		"  images             1.5s  failed",
		"  in all            1m32s",
		"",
	}, "\n")
	if out.String() != want {
		t.Errorf("printed\n%s\nexpected\n%s", out.String(), want)
	}
}

func TestShort(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		want string
	}{
		{0, "0.0s"},
		{59940 * time.Millisecond, "59.9s"},
		{time.Minute, "1m00s"},
		{14*time.Minute + 5*time.Second, "14m05s"},
		{100 * time.Minute, "100m00s"},
	} {
		if got := short(c.d); got != c.want {
			t.Errorf("short(%s) = %q, expected %q", c.d, got, c.want)
		}
	}
}
