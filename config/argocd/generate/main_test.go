package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestThePatchIsWhatTheScriptsMake(t *testing.T) {
	made, err := patch("..")
	if err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(filepath.Join("..", result))
	if err != nil {
		t.Fatal(err)
	}
	if string(made) != string(kept) {
		t.Errorf("config/argocd/%s is stale: go run ./config/argocd/generate", result)
	}
}

func TestEveryActionsScriptIsInThePatch(t *testing.T) {
	scripts, err := filepath.Glob(filepath.Join("..", "actions", "*.lua"))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, script := range scripts {
		if name := strings.TrimSuffix(filepath.Base(script), ".lua"); name != "discovery" {
			found = append(found, name)
		}
	}
	if known := slices.Sorted(slices.Values(actionNames)); !slices.Equal(found, known) {
		t.Errorf("scripts in config/argocd/actions: %v, actions that are generated: %v", found, known)
	}
}
