// Command reference writes docs/reference.md from the resource definition and from the comments in api/v1alpha1. Run it
// in the repository's root.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

const page = "docs/reference.md"

func main() {
	text, err := reference(".")
	if err == nil {
		err = os.WriteFile(page, []byte(text), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

// reference is the page for the repository in root.
func reference(root string) (string, error) {
	types, err := readTypes(filepath.Join(root, "api", "v1alpha1"))
	if err != nil {
		return "", err
	}
	definition, err := readDefinition(filepath.Join(root, "config", "crd", "meshprobe.dev_httpsmeshprobes.yaml"))
	if err != nil {
		return "", err
	}
	return write(types, definition), nil
}
