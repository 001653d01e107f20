// Package progress tells a person what the lab is doing and how long it takes:
// one line when a stage starts, one when it ends, one now and then in between,
// and a table of all stages at the end.
package progress

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// heartbeat is how long a stage may run before it says that it still does.
const heartbeat = 30 * time.Second

// Reporter prints the progress of stages that may run side by side.
type Reporter struct {
	mu     sync.Mutex
	out    io.Writer
	now    func() time.Time
	start  time.Time
	stages []*Stage
}

// Stage is one piece of work with a beginning and an end.
type Stage struct {
	name     string
	reporter *Reporter
	start    time.Time
	took     time.Duration
	outcome  string
	detail   func() string
	over     chan struct{}
}

// New returns a Reporter that writes to out and counts time from now on.
func New(out io.Writer, now func() time.Time) *Reporter {
	return &Reporter{out: out, now: now, start: now()}
}

// Start announces a stage. What it does is said in one phrase.
func (r *Reporter) Start(name, doing string) *Stage {
	s := &Stage{name: name, reporter: r, start: r.now(), over: make(chan struct{})}
	r.mu.Lock()
	r.stages = append(r.stages, s)
	r.mu.Unlock()
	s.Say(doing)
	go s.beat()
	return s
}

// Skip records a stage that had nothing to do.
func (r *Reporter) Skip(name, why string) {
	s := &Stage{name: name, reporter: r, start: r.now(), outcome: why}
	r.mu.Lock()
	r.stages = append(r.stages, s)
	r.mu.Unlock()
}

// Elapsed is the time since the Reporter was made.
func (r *Reporter) Elapsed() time.Duration { return r.now().Sub(r.start) }

// DetailFrom has every later heartbeat of the stage show what detail returns.
func (s *Stage) DetailFrom(detail func() string) {
	s.reporter.mu.Lock()
	defer s.reporter.mu.Unlock()
	s.detail = detail
}

// Say prints a line under the stage's name.
func (s *Stage) Say(line string) {
	s.reporter.mu.Lock()
	defer s.reporter.mu.Unlock()
	fmt.Fprintf(s.reporter.out, "[%6s] %-14s %s\n", short(s.reporter.now().Sub(s.reporter.start)), s.name, line)
}

// End closes the stage; err says why it failed and may be nil.
func (s *Stage) End(err error) {
	close(s.over)
	s.took = s.reporter.now().Sub(s.start)
	if err != nil {
		s.outcome = "failed"
		s.Say(fmt.Sprintf("failed after %s: %v", short(s.took), err))
		return
	}
	s.outcome = "done"
	s.Say("done in " + short(s.took))
}

func (s *Stage) beat() {
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-s.over:
			return
		case <-tick.C:
			s.reporter.mu.Lock()
			detail := s.detail
			s.reporter.mu.Unlock()
			line := "still running"
			if detail != nil {
				line += ": " + detail()
			}
			s.Say(line)
		}
	}
}

// Table prints what each stage took, in the order in which they started.
func (r *Reporter) Table() {
	r.mu.Lock()
	defer r.mu.Unlock()
	var table strings.Builder
	for _, s := range r.stages {
		took := "-"
		if s.took > 0 {
			took = short(s.took)
		}
		fmt.Fprintf(&table, "  %-14s %8s  %s\n", s.name, took, s.outcome)
	}
	fmt.Fprintf(&table, "  %-14s %8s\n", "in all", short(r.now().Sub(r.start)))
	fmt.Fprint(r.out, table.String())
}

// short writes a duration as a person would: tenths while they matter.
func short(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	d = d.Round(time.Second)
	return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
}
