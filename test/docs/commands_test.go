package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// notOurs are programs that pages name and this repository neither builds nor tests. Whoever writes such a line runs it by
// hand; docs/release.md says of its own that nobody has.
var notOurs = map[string]bool{
	"cosign": true, "crane": true, "docker": true, "gh": true, "git": true, "go": true, "istioctl": true, "argocd": true, "flux": true,
	"curl": true, "promtool": true, "prometheus": true, "openssl": true,
	"eval": true, "exit": true, "export": true, "cd": true, "mkdir": true, "tar": true, "sha256sum": true, "sleep": true, "source": true,
	"chmod": true, "cp": true, "mv": true, "ln": true, "sudo": true, "install": true, "echo": true, "cat": true, "test": true, "xdg-open": true,
}

// command is a line of shell without what stands around it.
type command struct {
	page string
	line int
	args []string
}

func commands(t *testing.T) []command {
	t.Helper()
	var all []command
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			for _, one := range b.commands() {
				one.page = p.path
				all = append(all, one)
			}
		}
		for _, span := range p.spans() {
			for _, one := range spanCommands(span) {
				one.page = p.path
				all = append(all, one)
			}
		}
	}
	if len(all) < 30 {
		t.Fatalf("only %d commands were found", len(all))
	}
	return all
}

var (
	continued = regexp.MustCompile(`\\\n *`)
	// heredoc is what a command reads: the text up to the line that repeats the word.
	heredoc   = regexp.MustCompile(`<<-?'?([A-Z]+)'?`)
	quoted    = regexp.MustCompile(`"[^"]*"|'[^']*'`)
	operators = regexp.MustCompile(`&&|\|\||[|;{}&]`)
)

// commands splits shell well enough for documentation: every simple command becomes one entry, with quoted parts blanked.
func (b block) commands() []command {
	text := b.text
	switch b.language {
	case "sh", "bash", "shell":
	case "console":
		text = prompted(text)
	default:
		return nil
	}
	text = continued.ReplaceAllString(text, " ")
	// Quoted parts may hold operators, and may go over several lines.
	text = quoted.ReplaceAllString(text, "QUOTED")
	var all []command
	end := ""
	number := b.line - 1
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if end != "" {
			if line == end {
				end = ""
			}
			continue
		}
		if here := heredoc.FindStringSubmatch(line); here != nil {
			end = here[1]
		}
		if before, _, found := strings.Cut(" "+line, " #"); found {
			line = before
		}
		for _, simple := range operators.Split(line, -1) {
			if args := words(simple); len(args) > 0 {
				all = append(all, command{line: number, args: args})
			}
		}
	}
	return all
}

// spanCommands are the commands in a piece of code inside the text, if it is a command: it names a program that can be asked
// for its flags, and something more.
func spanCommands(span string) []command {
	name, _, more := strings.Cut(span, " ")
	switch name {
	case "kubectl", "helm", "make", "bin/lab", "bin/helm", "bin/release":
		if more {
			return block{language: "sh", text: span}.commands()
		}
	}
	return nil
}

// prompted are the lines that a person types; the rest is what is answered.
func prompted(text string) string {
	var typed strings.Builder
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "$ "); ok {
			typed.WriteString(rest)
		}
	}
	return typed.String()
}

// words are a simple command's, without variables before it and redirections.
func words(simple string) []string {
	var args []string
	for _, word := range strings.Fields(simple) {
		switch {
		case len(args) == 0 && strings.Contains(word, "="), strings.HasPrefix(word, ">"), strings.HasPrefix(word, "<"), strings.HasPrefix(word, "2>"):
		default:
			args = append(args, word)
		}
	}
	return args
}

func TestEveryBlockOfShellIsShell(t *testing.T) {
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			text := b.text
			switch b.language {
			case "sh", "bash", "shell":
			case "console":
				text = prompted(text)
			default:
				continue
			}
			shell := exec.CommandContext(t.Context(), "bash", "-n")
			shell.Stdin = strings.NewReader(text)
			if out, err := shell.CombinedOutput(); err != nil {
				t.Errorf("%s:%d: %s", p.path, b.line, out)
			}
		}
	}
}

func TestEveryCommandIsKnown(t *testing.T) {
	targets := makeTargets(t)
	for _, c := range commands(t) {
		switch name := c.args[0]; {
		case name == "make":
			for _, arg := range c.args[1:] {
				if !strings.Contains(arg, "=") && !targets[arg] {
					t.Errorf("%s:%d: make has no target %s", c.page, c.line, arg)
				}
			}
		case name == "kubectl", name == "helm", name == "bin/lab", name == "bin/helm", name == "bin/release", notOurs[name]:
		case strings.Contains(name, "/"):
			if _, err := os.Stat(filepath.Join(root, name)); err != nil && !targets[name] {
				t.Errorf("%s:%d: there is no %s", c.page, c.line, name)
			}
		default:
			t.Errorf("%s:%d: nobody knows the command %q", c.page, c.line, strings.Join(c.args, " "))
		}
	}
}

// makeTargets are the Makefile's, those of files included.
func makeTargets(t *testing.T) map[string]bool {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	targets := map[string]bool{}
	for _, line := range regexp.MustCompile(`(?m)^([a-zA-Z0-9/_. -]+):(?:[^=]|$)`).FindAllStringSubmatch(string(content), -1) {
		for _, target := range strings.Fields(line[1]) {
			targets[target] = true
		}
	}
	return targets
}

// program is one whose subcommands and flags its own help tells.
type program struct {
	path string
	// common are arguments that list the flags of every subcommand, if there are such.
	common []string
	helps  map[string]string
}

func (p *program) help(t *testing.T, args ...string) string {
	t.Helper()
	key := strings.Join(args, " ")
	if text, known := p.helps[key]; known {
		return text
	}
	// What a help prints is what counts: the lab's ends with an exit code of its own.
	out, _ := exec.CommandContext(t.Context(), p.path, args...).CombinedOutput()
	p.helps[key] = string(out)
	return string(out)
}

// complaint says which subcommand or flag the program does not know, or "". A subcommand is what stands before the first
// flag and has a help of its own.
func (p *program) complaint(t *testing.T, args []string) string {
	t.Helper()
	depth := 0
	help := p.help(t, "--help")
	for depth < len(args) && !strings.HasPrefix(args[depth], "-") {
		deeper := p.help(t, append(append([]string{}, args[:depth+1]...), "--help")...)
		// Some programs answer so, others with nothing or with the help that they have given already.
		if strings.Contains(deeper, "unknown command") || deeper == "" || depth == 0 && deeper == help {
			return "has no command " + args[depth]
		}
		if deeper == help {
			break
		}
		help = deeper
		depth++
	}
	if len(p.common) > 0 {
		help += p.help(t, p.common...)
	}
	for _, arg := range args {
		if arg == "--" {
			break
		}
		name, _, _ := strings.Cut(arg, "=")
		if !strings.HasPrefix(name, "-") || name == "-" || name == "--help" || name == "-h" {
			continue
		}
		// Go's own package tells flags with one dash.
		spelled := regexp.QuoteMeta(name)
		if strings.HasPrefix(name, "--") {
			spelled = "-?" + regexp.QuoteMeta(name[1:])
		}
		if !regexp.MustCompile(`(?m)(^|[\s,\[])` + spelled + `([\s=,\]:]|$)`).MatchString(help) {
			return "knows no " + name
		}
	}
	return ""
}

// check holds the arguments of a command against the program.
func (p *program) check(t *testing.T, c command, args []string) {
	t.Helper()
	if complaint := p.complaint(t, args); complaint != "" {
		t.Errorf("%s:%d: %s %s: %s", c.page, c.line, filepath.Base(p.path), complaint, strings.Join(c.args, " "))
	}
}

func newProgram(path string, common ...string) *program {
	return &program{path: path, common: common, helps: map[string]string{}}
}

func TestFlagsOfThePlugin(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubectl-meshprobe")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", path, "./cmd/kubectl-meshprobe")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	plugin := newProgram(path)
	for _, c := range commands(t) {
		if c.args[0] == "kubectl" && len(c.args) > 1 && c.args[1] == "meshprobe" {
			plugin.check(t, c, c.args[2:])
		}
	}
}

func TestFlagsOfKubectl(t *testing.T) {
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		t.Skip("KUBEBUILDER_ASSETS is not set: make test-unit sets it")
	}
	kubectl := newProgram(filepath.Join(assets, "kubectl"), "options")
	for line, wrong := range map[string]string{
		"get hmp -o wide": "", "-n shop get hmp": "", "get hmp --outputs=wide": "knows no --outputs", "git hmp": "has no command git", "create role x --verb=get --resource-names=y": "knows no --resource-names",
	} {
		if got := kubectl.complaint(t, withoutLeadingFlags(strings.Fields(line))); got != wrong {
			t.Errorf("of kubectl %s it says %q, expected %q", line, got, wrong)
		}
	}
	for _, c := range commands(t) {
		if c.args[0] == "kubectl" && len(c.args) > 1 && c.args[1] != "meshprobe" {
			kubectl.check(t, c, withoutLeadingFlags(c.args[1:]))
		}
	}
}

// withoutLeadingFlags leaves out kubectl's own flags with a value, which may stand before the command.
func withoutLeadingFlags(args []string) []string {
	for len(args) > 1 && strings.HasPrefix(args[0], "-") {
		args = args[2:]
	}
	return args
}

func TestFlagsOfTheBuiltPrograms(t *testing.T) {
	for _, name := range []string{"bin/lab", "bin/helm", "bin/release"} {
		path, err := filepath.Abs(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); err != nil {
			t.Logf("%s is not built: its lines are not looked at", name)
			continue
		}
		built := newProgram(path)
		for _, c := range commands(t) {
			if c.args[0] == name || "bin/"+c.args[0] == name {
				built.check(t, c, c.args[1:])
			}
		}
	}
}

// A flag in the text, outside a command, is one that our own programs declare.
func TestEveryFlagInTheTextExists(t *testing.T) {
	var declared strings.Builder
	for _, folder := range []string{".", "cmd", "internal", "hack"} {
		for _, source := range sources(t, folder) {
			content, err := os.ReadFile(source)
			if err != nil {
				t.Fatal(err)
			}
			declared.Write(content)
		}
	}
	flag := regexp.MustCompile(`(?:^|\s)--([a-z][a-z-]+)`)
	count := 0
	for _, p := range pages(t) {
		for _, span := range p.spans() {
			if len(spanCommands(span)) > 0 {
				continue
			}
			for _, found := range flag.FindAllStringSubmatch(span, -1) {
				count++
				if !strings.Contains(declared.String(), strconv.Quote(found[1])) && !ofOthers[found[1]] {
					t.Errorf("%s names the flag --%s, which none of our programs has", p.path, found[1])
				}
			}
		}
	}
	if count == 0 {
		t.Error("no flag was found")
	}
}

// ofOthers are flags of Kubernetes' own programs, which the lab's page speaks of, and of Helm.
var ofOthers = map[string]bool{
	"conntrack-max-per-core": true, "kubelet-preferred-address-types": true,
	"create-namespace": true, "reset-then-reuse-values": true, "set": true, "take-ownership": true, "values": true,
}

// sources are the Go files of a folder; of the root, those that lie in it.
func sources(t *testing.T, folder string) []string {
	t.Helper()
	if folder == "." {
		files, err := filepath.Glob(filepath.Join(root, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	var files []string
	err := filepath.WalkDir(filepath.Join(root, folder), func(path string, _ os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// A path into the repository, wherever it stands in code, is there.
func TestEveryPathExists(t *testing.T) {
	targets := makeTargets(t)
	path := regexp.MustCompile(`(?:^|[\s("'=:])((?:api|bin|charts|cmd|config|controllers|docs|hack|internal|test)/[A-Za-z0-9_./-]*[A-Za-z0-9_])`)
	count := 0
	for _, p := range pages(t) {
		texts := p.spans()
		for _, b := range p.blocks {
			texts = append(texts, b.text)
		}
		// The lab's page speaks of rooms by their path in the lab.
		folders := []string{root, filepath.Join(root, filepath.Dir(p.path))}
		for _, text := range texts {
			for _, found := range path.FindAllStringSubmatch(text, -1) {
				count++
				if !exists(folders, found[1]) && !targets[found[1]] && !strings.HasPrefix(found[1], "bin/") {
					t.Errorf("%s names %s, which is not there", p.path, found[1])
				}
				if strings.HasPrefix(found[1], "bin/") && !targets[found[1]] && found[1] != "bin/manager" && found[1] != "bin/probe" && found[1] != "bin/kubectl-meshprobe" {
					t.Errorf("%s names %s, which make does not build", p.path, found[1])
				}
			}
		}
	}
	if count < 30 {
		t.Errorf("only %d paths were found", count)
	}
}

func exists(folders []string, path string) bool {
	for _, folder := range folders {
		if _, err := os.Stat(filepath.Join(folder, path)); err == nil {
			return true
		}
	}
	return false
}

// The operator's flags have a row each in docs/operating.md.
func TestEveryFlagOfTheOperatorHasARow(t *testing.T) {
	source, err := os.ReadFile(filepath.Join(root, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile(filepath.Join(root, "docs", "operating.md"))
	if err != nil {
		t.Fatal(err)
	}
	flags := regexp.MustCompile(`flag\.[A-Za-z0-9]+\((?:&[^,]+, )?"([a-z-]+)"`).FindAllStringSubmatch(string(source), -1)
	for _, flag := range flags {
		if !strings.Contains(string(table), "\n| `--"+flag[1]+"` |") {
			t.Errorf("docs/operating.md has no row for --%s", flag[1])
		}
	}
	if len(flags) < 8 {
		t.Errorf("only %d flags were found", len(flags))
	}
}
