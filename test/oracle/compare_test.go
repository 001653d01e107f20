package oracle

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"istio.io/istio/pkg/log"
)

var (
	onlySeed = flag.Uint64("seed", 0, "the seed of the one set to compare again")
	onlySet  = flag.Int("set", -1, "the number of the one set to compare again")
)

func TestMain(m *testing.M) {
	flag.Parse()
	quiet := log.DefaultOptions()
	quiet.SetDefaultOutputLevel("default", log.NoneLevel)
	if err := log.Configure(quiet); err != nil {
		fmt.Fprintln(os.Stderr, "configure Istio's log:", err)
		os.Exit(1)
	}
	for _, scope := range log.Scopes() {
		scope.SetOutputLevel(log.NoneLevel)
	}
	os.Exit(m.Run())
}

// comparison is a number of random sets that both sides are asked about.
type comparison struct {
	seed     uint64
	sets     int
	generate func(dice) set
	// disagreement says how the sides differ about a set, and how many questions it took; "" where they agree.
	disagreement func(set) (string, int)
	// tally counts what was answered, to show that all answers occur; nil where nothing counts.
	tally map[string]int
}

// finding is a set about which the sides differ.
type finding struct {
	number int
	set    set
	says   string
}

// find goes through the sets until it has found as many disagreements as are wanted.
func (c comparison) find(most int) (findings []finding, sets, questions int) {
	for number := range c.sets {
		if *onlySet >= 0 && (*onlySeed != c.seed || *onlySet != number) {
			continue
		}
		drawn := c.generate(roll(c.seed, uint64(number)))
		says, asked := c.disagreement(drawn)
		sets, questions = sets+1, questions+asked
		if says == "" {
			continue
		}
		findings = append(findings, finding{number: number, set: drawn, says: says})
		if len(findings) == most {
			break
		}
	}
	return findings, sets, questions
}

// run fails the test for every disagreement, and prints the figures.
func (c comparison) run(t *testing.T) {
	t.Helper()
	begun := time.Now()
	findings, sets, questions := c.find(5)
	for _, found := range findings {
		smallest := shrink(found.set, func(s set) bool { says, _ := c.disagreement(s); return says != "" })
		says, _ := c.disagreement(smallest)
		t.Errorf("they differ about set %d of seed %d (repeat with -args -seed %d -set %d):\n%s%s",
			found.number, c.seed, c.seed, found.number, smallest, says)
	}
	t.Logf("seed %d: %d sets, %d questions, %d disagreements, %.1f seconds", c.seed, sets, questions, len(findings), time.Since(begun).Seconds())
	for _, answer := range slices.Sorted(maps.Keys(c.tally)) {
		t.Logf("%8d times %s", c.tally[answer], answer)
	}
}

// notices fails the test unless the comparison finds the wrong policy out, which shows that it can.
func (c comparison) notices(t *testing.T) {
	t.Helper()
	if *onlySet >= 0 {
		t.Skip("one set alone is compared")
	}
	findings, sets, _ := c.find(1)
	if len(findings) == 0 {
		t.Fatalf("seed %d: nothing was noticed in %d sets", c.seed, sets)
	}
	smallest := shrink(findings[0].set, func(s set) bool { says, _ := c.disagreement(s); return says != "" })
	says, _ := c.disagreement(smallest)
	t.Logf("seed %d: noticed after %d sets:\n%s%s", c.seed, sets, smallest, says)
}
