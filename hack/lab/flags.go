package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
)

// newFlags starts the flags of one command, with its help text.
func newFlags(name, help string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(os.Stdout)
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "lab %s\n%s\n", name, help)
		flags.PrintDefaults()
	}
	return flags
}

// parseNoArguments parses flags where nothing may follow them.
func parseNoArguments(flags *flag.FlagSet, arguments []string) error {
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("lab %s takes no argument, but was given %q", flags.Name(), flags.Arg(0))
	}
	return nil
}

// labName is the flag that says which lab a command is about.
type labName string

// Instance names become host names, node names and cgroup names.
var labNamePattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$`)

func (n *labName) String() string { return string(*n) }

// Set checks and takes the name.
func (n *labName) Set(value string) error {
	if !labNamePattern.MatchString(value) {
		return fmt.Errorf("a lab's name has up to 32 lower-case letters, digits and hyphens, and begins and ends with a letter or digit")
	}
	*n = labName(value)
	return nil
}

func nameFlag(flags *flag.FlagSet) *labName {
	name := labName("default")
	flags.Var(&name, "name", "which `lab`")
	return &name
}
