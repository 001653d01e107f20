package plugin

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// mostOffered is how many names are offered for a mistyped one.
const mostOffered = 3

// didYouMean is the end of a sentence about a name that does not exist: the nearest of those that do, else otherwise.
func didYouMean(mistyped string, names []string, otherwise string) string {
	near := nearest(mistyped, names)
	if len(near) == 0 {
		if otherwise == "" {
			return ""
		}
		return ": " + otherwise
	}
	quoted := make([]string, len(near))
	for i, name := range near {
		quoted[i] = fmt.Sprintf("%q", name)
	}
	return "; did you mean " + strings.Join(quoted, " or ") + "?"
}

// nearest are the names that somebody may have meant, the most similar first.
func nearest(mistyped string, names []string) []string {
	type candidate struct {
		name     string
		distance int
	}
	wanted := strings.ToLower(mistyped)
	var near []candidate
	for _, name := range names {
		have := strings.ToLower(name)
		distance := editDistance(wanted, have)
		// A few letters alike say nothing, and a third of a word may be wrong.
		contained := min(len(wanted), len(have)) > 3 && (strings.Contains(have, wanted) || strings.Contains(wanted, have))
		if contained || distance <= max(1, len(wanted)/3) {
			near = append(near, candidate{name, distance})
		}
	}
	slices.SortFunc(near, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.name, b.name))
	})
	var offered []string
	for _, candidate := range near[:min(len(near), mostOffered)] {
		offered = append(offered, candidate.name)
	}
	return offered
}

// editDistance counts the letters to insert, remove, replace or swap with their neighbour that make a into b (optimal
// string alignment).
func editDistance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			replaced := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				replaced++
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, replaced)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

func flagNames(command *cobra.Command) []string {
	var names []string
	command.Flags().VisitAll(func(flag *pflag.Flag) { names = append(names, flag.Name) })
	return names
}

// choice is a flag with few values. It takes them in any case, and is never anything else.
type choice struct {
	value   *string
	allowed []string
}

func (c choice) String() string {
	if c.value == nil {
		return ""
	}
	return *c.value
}

// Type is what pflag shows in the usage for the value.
func (c choice) Type() string { return "string" }

// Set takes one of the allowed values.
func (c choice) Set(text string) error {
	for _, allowed := range c.allowed {
		if strings.EqualFold(allowed, text) {
			*c.value = allowed
			return nil
		}
	}
	return fmt.Errorf("must be one of %s%s", strings.Join(c.allowed, ", "), didYouMean(text, c.allowed, ""))
}

// addChoice adds a flag with few values to a command, and their completion.
func addChoice(command *cobra.Command, value *string, name, short, standard, usage string, allowed ...string) {
	*value = standard
	command.Flags().VarP(choice{value, allowed}, name, short, fmt.Sprintf("%s: one of %s", usage, strings.Join(allowed, ", ")))
	// It fails for a flag that does not exist alone.
	_ = command.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(allowed, cobra.ShellCompDirectiveNoFileComp))
}
