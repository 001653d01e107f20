package report

import (
	"strings"
	"unicode/utf8"
)

// Tone is how a cell is coloured where the terminal has colours. A word always says the same.
type Tone int

const (
	// Plain is not coloured.
	Plain Tone = iota
	// Good is green.
	Good
	// Bad is red.
	Bad
	// Open is yellow: not known.
	Open
	// Faint is for what matters less.
	Faint
)

// escapes are the SGR sequences of the tones (ECMA-48, 8.3.117).
var escapes = map[Tone]string{Good: "\x1b[32m", Bad: "\x1b[31m", Open: "\x1b[33m", Faint: "\x1b[2m"}

// Paint colours text, if colours are wanted.
func Paint(text string, tone Tone, colour bool) string {
	escape, ok := escapes[tone]
	if !ok || !colour || text == "" {
		return text
	}
	return escape + text + "\x1b[0m"
}

// ToneOf is the tone of a verdict.
func ToneOf(verdict Verdict) Tone {
	switch verdict {
	case Verified:
		return Good
	case Refuted:
		return Bad
	default:
		return Open
	}
}

// Cell is one entry of a table.
type Cell struct {
	Text string
	Tone Tone
}

const columnGap = 3

// Columns remembers how wide the columns of a table are, so that lines that are printed later stand below the earlier.
type Columns struct {
	widths []int
	// Colour says whether cells are coloured.
	Colour bool
	// Limit cuts lines that are longer; 0 cuts none. In characters.
	Limit int
}

// Fit makes the columns wide enough for rows.
func (c *Columns) Fit(rows ...[]Cell) {
	for _, row := range rows {
		for i, cell := range row {
			if i == len(c.widths) {
				c.widths = append(c.widths, 0)
			}
			c.widths[i] = max(c.widths[i], utf8.RuneCountInString(cell.Text))
		}
	}
}

// Line is a row as a line of text, without its end. The last column is not filled up.
func (c *Columns) Line(row []Cell) string {
	var line strings.Builder
	used := 0
	for i, cell := range row {
		text := clean(cell.Text)
		if c.Limit > 0 {
			text = cut(text, c.Limit-used)
		}
		line.WriteString(Paint(text, cell.Tone, c.Colour))
		if i == len(row)-1 {
			break
		}
		fill := c.widths[i] - utf8.RuneCountInString(cell.Text) + columnGap
		line.WriteString(strings.Repeat(" ", max(0, fill)))
		used += utf8.RuneCountInString(cell.Text) + fill
	}
	return strings.TrimRight(line.String(), " ")
}

// clean keeps what comes from the cluster from moving a terminal's cursor.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == '\x7f' || r >= '\u0080' && r < '\u00a0' {
			return ' '
		}
		return r
	}, text)
}

// cut shortens text to a number of characters.
func cut(text string, limit int) string {
	runes := []rune(text)
	switch {
	case len(runes) <= limit:
		return text
	case limit < 1:
		return ""
	default:
		return string(runes[:limit-1]) + "…"
	}
}
