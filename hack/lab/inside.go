package main

import (
	"fmt"
	"os"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/node"
)

// runInsideNamespaces does what this program does as a process of its own inside
// new namespaces, and reports whether it was called for that. People do not call
// these verbs.
func runInsideNamespaces(arguments []string) bool {
	if len(arguments) < 3 {
		return false
	}
	var err error
	switch arguments[1] {
	case node.FirstStep:
		err = node.TakeFirstStep(arguments[2])
	case node.SecondStep:
		err = node.TakeSecondStep(arguments[2])
	case node.ImportStep:
		if len(arguments) != 6 {
			return false
		}
		err = node.ImportImages(arguments[2], arguments[3], arguments[4], arguments[5])
	default:
		return false
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}
