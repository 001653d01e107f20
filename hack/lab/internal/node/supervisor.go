package node

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const componentsFile = "components.json"

const (
	// steadyAfter is how long a program must have run for its next end to count as
	// its first.
	steadyAfter    = 30 * time.Second
	shortestRepose = 500 * time.Millisecond
	longestRepose  = 10 * time.Second
)

// ComponentState is how one of the node's programs fares.
type ComponentState struct {
	Name     string
	PID      int `json:",omitempty"`
	Since    time.Time
	Restarts int
	LastExit string `json:",omitempty"`
}

// supervisor keeps programs running and buries all processes that end, as the
// first process of a PID namespace must.
type supervisor struct {
	mu      sync.Mutex
	waiting map[int]chan syscall.WaitStatus
	order   []string
	states  map[string]*ComponentState
}

func newSupervisor() *supervisor {
	return &supervisor{waiting: map[int]chan syscall.WaitStatus{}, states: map[string]*ComponentState{}}
}

// bury waits for ended processes for ever, and tells those who started them.
func (s *supervisor) bury() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if err == syscall.ECHILD {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		if err != nil || pid <= 0 {
			continue
		}
		// start holds the lock until it has noted its child, so none is missed.
		s.mu.Lock()
		if told := s.waiting[pid]; told != nil {
			delete(s.waiting, pid)
			told <- status
		}
		s.mu.Unlock()
	}
}

// run starts the components one after the other, each when those before it are
// ready, and keeps them running until the process ends.
func (s *supervisor) run(ctx context.Context, list []component) {
	for _, c := range list {
		go s.keep(c)
		for c.ready != nil && !c.ready(ctx) {
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// keep runs one component again and again, at growing distances while it does
// not stay up.
func (s *supervisor) keep(c component) {
	repose := shortestRepose
	for {
		started := time.Now()
		how := s.once(c)
		if time.Since(started) > steadyAfter {
			repose = shortestRepose
		}
		s.note(c.name, func(state *ComponentState) {
			state.PID, state.LastExit = 0, how
			state.Restarts++
		})
		time.Sleep(repose)
		repose = min(2*repose, longestRepose)
	}
}

// once runs the component to its end and says how it ended.
func (s *supervisor) once(c component) string {
	log, err := os.OpenFile(filepath.Join(logsInNode, c.name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err.Error()
	}
	defer log.Close()
	pid, ended, err := s.start(c.command, log)
	if err != nil {
		fmt.Fprintln(log, err)
		return err.Error()
	}
	s.note(c.name, func(state *ComponentState) { state.PID, state.Since = pid, time.Now() })
	status := <-ended
	if status.Signaled() {
		return fmt.Sprintf("ended by signal %d, %s", status.Signal(), status.Signal())
	}
	return fmt.Sprintf("exit code %d", status.ExitStatus())
}

func (s *supervisor) start(command []string, log *os.File) (int, <-chan syscall.WaitStatus, error) {
	program, err := FindProgram(command[0])
	if err != nil {
		return 0, nil, err
	}
	nothing, err := os.Open("/dev/null")
	if err != nil {
		return 0, nil, err
	}
	defer nothing.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	pid, err := syscall.ForkExec(program, command, &syscall.ProcAttr{
		Dir:   "/",
		Env:   Environment(),
		Files: []uintptr{nothing.Fd(), log.Fd(), log.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, nil, fmt.Errorf("cannot start %s: %w", program, err)
	}
	ended := make(chan syscall.WaitStatus, 1)
	s.waiting[pid] = ended
	return pid, ended, nil
}

// note changes what is known of a component and writes it down for lab status.
func (s *supervisor) note(name string, change func(*ComponentState)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.states[name] == nil {
		s.states[name] = &ComponentState{Name: name}
		s.order = append(s.order, name)
	}
	change(s.states[name])
	var all []ComponentState
	for _, each := range s.order {
		all = append(all, *s.states[each])
	}
	content, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot tell how the programs fare:", err)
		return
	}
	path := filepath.Join(stateInNode, componentsFile)
	if err = os.WriteFile(path+".new", content, 0o644); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot tell how the programs fare:", err)
	}
}
