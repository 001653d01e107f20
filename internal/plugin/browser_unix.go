//go:build !windows

package plugin

import (
	"os/exec"
	"runtime"
	"syscall"
)

// browserOpener is the program that opens an address. It gets a process group of its own, so that Ctrl-C here does not
// end a browser that it started.
func browserOpener(address string) *exec.Cmd {
	opener := "xdg-open"
	if runtime.GOOS == "darwin" {
		opener = "open"
	}
	command := exec.Command(opener, address)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return command
}
