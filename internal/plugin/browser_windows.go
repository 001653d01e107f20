package plugin

import (
	"os/exec"
	"syscall"
)

// browserOpener is the program that opens an address. It gets a process group of its own, so that Ctrl-C here does not
// end a browser that it started.
func browserOpener(address string) *exec.Cmd {
	command := exec.Command("rundll32", "url.dll,FileProtocolHandler", address)
	command.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
	return command
}
