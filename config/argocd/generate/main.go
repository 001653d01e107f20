// Command generate writes config/argocd/argocd-cm.yaml, the patch of Argo CD's ConfigMap, from the Lua files beside it,
// so that no script exists twice. Run it at the repository's root: go run ./config/argocd/generate
package main

import (
	"log"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

const (
	folder = "config/argocd"
	result = "argocd-cm.yaml"
	header = "# Generated from the .lua files in this folder by: go run ./config/argocd/generate\n"
)

// actionNames are the actions in the order in which they are read; discovery.lua says which of them apply.
var actionNames = []string{"run-now", "suspend", "resume"}

// actions is the value that Argo CD reads under resource.customizations.actions.
type actions struct {
	Discovery   string       `json:"discovery.lua"`
	Definitions []definition `json:"definitions"`
}

type definition struct {
	Name   string `json:"name"`
	Action string `json:"action.lua"`
}

func main() {
	text, err := patch(folder)
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, result), text, 0o644)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// patch is the patch of the ConfigMap argocd-cm that carries the scripts in folder.
func patch(folder string) ([]byte, error) {
	health, err := os.ReadFile(filepath.Join(folder, "health.lua"))
	if err != nil {
		return nil, err
	}
	actions, err := actionsText(filepath.Join(folder, "actions"))
	if err != nil {
		return nil, err
	}
	configMap, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1",
		"kind":       "ConfigMap",
		"metadata":   map[string]any{"name": "argocd-cm"},
		"data": map[string]string{
			"resource.customizations.health.meshprobe.dev_HTTPSMeshProbe":  string(health),
			"resource.customizations.actions.meshprobe.dev_HTTPSMeshProbe": string(actions),
		},
	})
	return append([]byte(header), configMap...), err
}

func actionsText(folder string) ([]byte, error) {
	discovery, err := os.ReadFile(filepath.Join(folder, "discovery.lua"))
	if err != nil {
		return nil, err
	}
	all := actions{Discovery: string(discovery)}
	for _, name := range actionNames {
		script, err := os.ReadFile(filepath.Join(folder, name+".lua"))
		if err != nil {
			return nil, err
		}
		all.Definitions = append(all.Definitions, definition{Name: name, Action: string(script)})
	}
	return yaml.Marshal(all)
}
