package instance

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/cache"
)

// The one setting of the machine that a lab changes. The usual 128 watchers of
// each user end at about 50 sidecars, whose agent then dies with "too many open
// files", and the kernel keeps no such limit for each namespace.
const (
	inotifySetting = "/proc/sys/fs/inotify/max_user_instances"
	inotifyNeeded  = 2048
)

// raised is what must be known to put the setting back. A machine that was
// started anew has its own value again.
type raised struct {
	Before int
	Boot   string
}

func raisedFile(store cache.Dir) string { return filepath.Join(store.Path(), "inotify.json") }

// RaiseInotify raises the limit where it is too low, and returns a sentence to
// say so, or nothing.
func RaiseInotify(store cache.Dir) (string, error) {
	before, err := readNumber(inotifySetting)
	if err != nil || before >= inotifyNeeded {
		return "", err
	}
	boot, err := bootID()
	if err != nil {
		return "", err
	}
	content, err := json.Marshal(raised{Before: before, Boot: boot})
	if err != nil {
		return "", fmt.Errorf("cannot write down the inotify limit: %w", err)
	}
	// Written down first: a limit that was raised and is not known to have been
	// would stay raised.
	if err := replaceFile(raisedFile(store), content, 0o644); err != nil {
		return "", err
	}
	if err := os.WriteFile(inotifySetting, []byte(strconv.Itoa(inotifyNeeded)), 0o644); err != nil {
		return "", fmt.Errorf("cannot raise fs.inotify.max_user_instances: %w", err)
	}
	return fmt.Sprintf("raised fs.inotify.max_user_instances of this machine from %d to %d; the last lab down puts it back", before, inotifyNeeded), nil
}

// RestoreInotify puts the limit back if no lab runs any more, and returns a
// sentence to say so, or nothing.
func RestoreInotify(store cache.Dir) (string, error) {
	content, err := os.ReadFile(raisedFile(store))
	if os.IsNotExist(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot read what the inotify limit was: %w", err)
	}
	if running, err := anyRunning(store); err != nil || running {
		return "", err
	}
	var was raised
	if err := json.Unmarshal(content, &was); err != nil {
		return "", fmt.Errorf("%s is broken (%w): set fs.inotify.max_user_instances by hand and remove that file", raisedFile(store), err)
	}
	said, err := was.restore()
	if err != nil {
		return "", err
	}
	return said, os.Remove(raisedFile(store))
}

// restore leaves alone what somebody else has set meanwhile.
func (r raised) restore() (string, error) {
	now, err := readNumber(inotifySetting)
	if err != nil {
		return "", err
	}
	boot, err := bootID()
	if err != nil || boot != r.Boot || now != inotifyNeeded {
		return "", err
	}
	if err := os.WriteFile(inotifySetting, []byte(strconv.Itoa(r.Before)), 0o644); err != nil {
		return "", fmt.Errorf("cannot put fs.inotify.max_user_instances back: %w", err)
	}
	return fmt.Sprintf("put fs.inotify.max_user_instances of this machine back to %d", r.Before), nil
}

func anyRunning(store cache.Dir) (bool, error) {
	all, err := All(store)
	if err != nil {
		return false, err
	}
	for _, each := range all {
		if _, ok := each.Running(); ok {
			return true, nil
		}
	}
	return false, nil
}

func readNumber(path string) (int, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("cannot read a setting of this machine: %w", err)
	}
	number, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return 0, fmt.Errorf("%s holds no number: %w", path, err)
	}
	return number, nil
}
