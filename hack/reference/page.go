package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

const introduction = `# Reference of the API

<!-- Written by hack/reference (make generate) from api/v1alpha1 and config/crd; change those instead. -->

`

// writer collects the page.
type writer struct {
	strings.Builder
	types types
}

func write(t types, d definition) string {
	w := &writer{types: t}
	version := d.Spec.Versions[0]
	root := version.Schema.OpenAPIV3Schema
	kind := d.Spec.Names.Kind
	w.WriteString(introduction)
	fmt.Fprintf(w, "`apiVersion: %s/%s`, `kind: %s`, %s; short name `%s`, category `%s`.\n\n%s\n\n", d.Spec.Group, version.Name, kind,
		strings.ToLower(d.Spec.Scope), strings.Join(d.Spec.Names.ShortNames, "`, `"), strings.Join(d.Spec.Names.Categories, "`, `"), oneLine(root.Description))
	w.WriteString("A field without default may be left out unless it is *required*. `kubectl explain hmp.spec` says the same. " +
		"[concepts.md](concepts.md) explains the words; examples are in the [README](../README.md#declare-a-probe).\n\n")
	for _, v := range root.Validations {
		fmt.Fprintf(w, "- %s.\n", v.Message)
	}
	w.WriteString("\n## Spec\n\n")
	w.table(kind+"Spec", root.Properties["spec"])
	w.WriteString("\n## Status\n\nBounded, and written by the operator alone.\n\n")
	w.table(kind+"Status", root.Properties["status"])
	w.annotation()
	w.columns(d)
	w.conditions()
	w.words()
	return w.String()
}

func (w *writer) table(goType string, s schema) {
	if len(s.Validations) > 0 {
		for _, v := range s.Validations {
			fmt.Fprintf(w, "- %s.\n", v.Message)
		}
		w.WriteString("\n")
	}
	w.WriteString("| field | type | default | meaning |\n|---|---|---|---|\n")
	w.rows(goType, "", s)
}

func (w *writer) rows(goType, prefix string, s schema) {
	for _, f := range w.types.fields[goType] {
		property, ok := s.Properties[f.name]
		if !ok {
			continue
		}
		path := prefix + f.name
		fmt.Fprintf(w, "| `%s` | %s | %s | %s |\n", path, kindOf(property), defaultOf(property, slices.Contains(s.Required, f.name)), meaning(f.name, property))
		switch {
		case property.Items != nil:
			w.rows(f.goType, path+"[].", *property.Items)
		case property.Properties != nil:
			w.rows(f.goType, path+".", property)
		}
	}
}

func kindOf(s schema) string {
	switch {
	case s.IntOrString:
		return "integer or string"
	case s.Items != nil:
		return "list of " + kindOf(*s.Items) + "s"
	case s.Format == "date-time":
		return "time"
	case len(s.Enum) > 0:
		return "word"
	}
	return s.Type
}

func defaultOf(s schema, required bool) string {
	switch {
	case required:
		return "*required*"
	case s.Default == nil:
		return ""
	}
	value, err := json.Marshal(s.Default)
	if err != nil {
		return fmt.Sprint(s.Default)
	}
	return "`" + strings.Trim(string(value), `"`) + "`"
}

// meaning is the description without the field's name, and what is refused.
func meaning(name string, s schema) string {
	parts := []string{statement(oneLine(s.Description), name)}
	if len(s.Enum) > 0 {
		words := make([]string, len(s.Enum))
		for i, word := range s.Enum {
			words[i] = fmt.Sprintf("`%v`", word)
		}
		parts = append(parts, "One of "+strings.Join(words, ", ")+".")
	}
	if s.Minimum != nil && s.Maximum != nil {
		parts = append(parts, fmt.Sprintf("Refused outside %v to %v.", *s.Minimum, *s.Maximum))
	}
	if s.MaxLength != nil {
		parts = append(parts, fmt.Sprintf("At most %d characters.", *s.MaxLength))
	}
	if s.MaxItems != nil {
		parts = append(parts, fmt.Sprintf("At most %d entries.", *s.MaxItems))
	}
	if len(s.ListMapKeys) > 0 {
		parts = append(parts, fmt.Sprintf("One entry for each `%s`.", strings.Join(s.ListMapKeys, "`, `")))
	}
	return strings.Join(append(parts, messages(s)...), " ")
}

// messages are what a person reads whose object is refused.
func messages(s schema) []string {
	var all []string
	for _, v := range s.Validations {
		all = append(all, "Refused with “"+cell(v.Message)+"”.")
	}
	return all
}

func (w *writer) annotation() {
	for _, g := range w.types.groups {
		for _, c := range g.constants {
			if strings.HasPrefix(c.name, "Annotation") {
				fmt.Fprintf(w, "\n## Annotations\n\n`%s` %s\n", c.value, strings.TrimPrefix(c.comment, c.name+" "))
			}
		}
	}
}

func (w *writer) columns(d definition) {
	w.WriteString("\n## Columns of kubectl get\n\n| column | shows | with |\n|---|---|---|\n")
	for _, column := range d.Spec.Versions[0].AdditionalPrinterColumns {
		with := ""
		if column.Priority > 0 {
			with = "`-o wide`"
		}
		fmt.Fprintf(w, "| %s | `%s` | %s |\n", strings.ToUpper(column.Name), strings.TrimPrefix(column.JSONPath, "."), with)
	}
}

// conditions writes the condition types and, group by group, the reasons.
func (w *writer) conditions() {
	for _, g := range w.types.groups {
		switch first := g.constants[0].name; {
		case strings.HasPrefix(first, "Condition"):
			fmt.Fprintf(w, "\n## Conditions\n\n%s\n\n| type | meaning |\n|---|---|\n", capital(strings.TrimPrefix(g.comment, "Condition types of an HTTPSMeshProbe. ")))
			for _, c := range g.constants {
				fmt.Fprintf(w, "| `%s` | %s |\n", c.value, statement(cell(c.comment), c.name))
			}
			w.WriteString("\n[verdicts.md](verdicts.md) says what to do about each reason.\n")
		case strings.HasPrefix(first, "Reason"):
			fmt.Fprintf(w, "\n### %s\n\n| reason | status | meaning |\n|---|---|---|\n", heading(g.comment))
			for _, c := range g.constants {
				status, text, _ := strings.Cut(strings.TrimPrefix(c.comment, c.name+" "), ": ")
				fmt.Fprintf(w, "| `%s` | %s | %s |\n", c.value, strings.Trim(status, "()"), capital(cell(text)))
			}
		}
	}
}

// words explains the values of the enumerations.
func (w *writer) words() {
	w.WriteString("\n## Words\n\n| type | word | meaning |\n|---|---|---|\n")
	for _, g := range w.types.groups {
		for _, c := range g.constants {
			if c.goType != "" {
				fmt.Fprintf(w, "| %s | `%s` | %s |\n", c.goType, c.value, statement(cell(c.comment), c.name))
			}
		}
	}
}

// heading is a comment's first sentence without its full stop.
func heading(comment string) string {
	first, _, _ := strings.Cut(comment, ". ")
	return strings.TrimSuffix(first, ".")
}

// statement is a Go comment without the name that it begins with.
func statement(comment, name string) string {
	text := strings.TrimLeft(strings.TrimPrefix(comment, name), ": ")
	for _, verb := range []string{"is ", "are ", "means that "} {
		text = strings.TrimPrefix(text, verb)
	}
	return capital(text)
}

// capital begins a text with a capital letter, unless it begins with a field's name.
func capital(text string) string {
	first, _, _ := strings.Cut(text, " ")
	if text == "" || strings.Contains(first, ".") {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

func oneLine(text string) string { return cell(strings.Join(strings.Fields(text), " ")) }

// cell keeps a text inside its cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
