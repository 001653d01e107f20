package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// definition is what the page takes from the CustomResourceDefinition.
type definition struct {
	Spec struct {
		Group string
		Scope string
		Names struct {
			Kind       string
			Categories []string
			ShortNames []string
		}
		Versions []struct {
			Name                     string
			AdditionalPrinterColumns []struct {
				Name, JSONPath string
				Priority       int
			}
			Schema struct{ OpenAPIV3Schema schema }
		}
	}
}

// schema is the part of OpenAPI's that the resource uses.
type schema struct {
	Type, Description, Format string
	Default                   any
	Properties                map[string]schema
	Items                     *schema
	Required                  []string
	Enum                      []any
	Minimum, Maximum          *float64
	MaxLength                 *int64
	MaxItems                  *int64
	IntOrString               bool         `json:"x-kubernetes-int-or-string"`
	Validations               []validation `json:"x-kubernetes-validations"`
	ListMapKeys               []string     `json:"x-kubernetes-list-map-keys"`
}

type validation struct{ Rule, Message string }

func readDefinition(path string) (definition, error) {
	var d definition
	content, err := os.ReadFile(path)
	if err != nil {
		return d, err
	}
	if err := yaml.Unmarshal(content, &d); err != nil {
		return d, err
	}
	if len(d.Spec.Versions) != 1 {
		return d, fmt.Errorf("%s has %d versions, and the page is made for one", path, len(d.Spec.Versions))
	}
	return d, nil
}

// types is what the Go source says and the definition does not: the order of fields, and what constants mean.
type types struct {
	// fields are a struct's fields, by its name.
	fields map[string][]field
	groups []group
}

type field struct{ name, goType string }

// group is a block of constants.
type group struct {
	comment   string
	constants []constant
}

// constant is one of them. goType is empty where it is an untyped string.
type constant struct{ name, goType, value, comment string }

func readTypes(folder string) (types, error) {
	t := types{fields: map[string][]field{}}
	for _, name := range []string{"httpsmeshprobe_types.go", "conditions.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(folder, name), nil, parser.ParseComments)
		if err != nil {
			return t, err
		}
		for _, declaration := range file.Decls {
			if general, ok := declaration.(*ast.GenDecl); ok {
				t.read(general)
			}
		}
	}
	return t, nil
}

func (t *types) read(declaration *ast.GenDecl) {
	g := group{comment: sentence(declaration.Doc)}
	for _, spec := range declaration.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if structure, ok := spec.Type.(*ast.StructType); ok {
				t.fields[spec.Name.Name] = fieldsOf(structure)
			}
		case *ast.ValueSpec:
			if value, ok := stringValue(spec); ok {
				c := constant{name: spec.Names[0].Name, value: value, comment: sentence(spec.Doc)}
				// The comment of a constant outside any block is the declaration's.
				if !declaration.Lparen.IsValid() {
					c.comment = g.comment
				}
				if named, ok := spec.Type.(*ast.Ident); ok {
					c.goType = named.Name
				}
				g.constants = append(g.constants, c)
			}
		}
	}
	if len(g.constants) > 0 {
		t.groups = append(t.groups, g)
	}
}

func fieldsOf(structure *ast.StructType) []field {
	var fields []field
	for _, f := range structure.Fields.List {
		if f.Tag == nil {
			continue
		}
		tag, err := strconv.Unquote(f.Tag.Value)
		if err != nil {
			continue
		}
		name, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
		if name != "" {
			fields = append(fields, field{name, typeName(f.Type)})
		}
	}
	return fields
}

// typeName is the name of the type that an expression leads to by way of pointers and lists.
func typeName(expression ast.Expr) string {
	switch e := expression.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.ArrayType:
		return typeName(e.Elt)
	}
	return ""
}

func stringValue(spec *ast.ValueSpec) (string, bool) {
	if len(spec.Values) != 1 {
		return "", false
	}
	literal, ok := spec.Values[0].(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return "", false
	}
	value, err := strconv.Unquote(literal.Value)
	return value, err == nil
}

// sentence is a comment on one line.
func sentence(comment *ast.CommentGroup) string {
	return strings.Join(strings.Fields(comment.Text()), " ")
}
