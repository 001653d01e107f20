package main

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestLabNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"default": true, "dev": true, "a": true, "e2e-1": true, strings.Repeat("a", 32): true,
		"": false, "Dev": false, "-a": false, "a-": false, "a/b": false, "..": false, "a_b": false, strings.Repeat("a", 33): false,
	} {
		var n labName
		if err := n.Set(name); (err == nil) != ok {
			t.Errorf("the name %q: %v", name, err)
		}
	}
}

func TestDispatchPutsTheNameBeforeOrAfterTheVerb(t *testing.T) {
	for _, arguments := range [][]string{
		{"--name", "Bad_Name", "env"},
		{"env", "--name", "Bad_Name"},
	} {
		err := dispatch(context.Background(), arguments)
		if err == nil || !strings.Contains(err.Error(), "lower-case") {
			t.Errorf("%q: %v", arguments, err)
		}
	}
}

func TestDispatchRefusesWhatItDoesNotKnow(t *testing.T) {
	if err := dispatch(context.Background(), []string{"explode"}); err == nil || !strings.Contains(err.Error(), `"explode"`) {
		t.Errorf("an unknown command: %v", err)
	}
	var code exitCode
	if err := dispatch(context.Background(), nil); !errors.As(err, &code) || code != 2 {
		t.Errorf("no command: %v", err)
	}
}
