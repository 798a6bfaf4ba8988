// Package report answers: how are measurements shown, to a reader at a terminal
// and in a document?
package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Table is one table. Each of Rows has as many cells as Head.
type Table struct {
	Title string
	// Note says what a reader must know to read the table right. May be empty.
	Note string
	Head []string
	Rows [][]string
}

// Print writes t for a terminal.
func (t *Table) Print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\n%s\n", t.Title)
	for _, row := range append([][]string{t.Head}, t.Rows...) {
		fmt.Fprintln(w, strings.Join(row, "\t")+"\t")
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print a table: %w", err)
	}
	return nil
}

// Markdown returns t for a document, its first column to the left.
func (t *Table) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n", t.Title)
	if t.Note != "" {
		fmt.Fprintf(&b, "%s\n\n", t.Note)
	}
	fmt.Fprintf(&b, "| %s |\n|---|%s\n", strings.Join(t.Head, " | "), strings.Repeat("---:|", len(t.Head)-1))
	for _, row := range t.Rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
	}
	return b.String()
}

// Goal is something to reach, and whether it was.
type Goal struct {
	What, Goal, Measured string
	Reached              bool
}

// Goals shows all goals in one table.
func Goals(goals []Goal) *Table {
	t := &Table{Title: "The goals", Head: []string{"what", "goal", "measured", "reached"}}
	for _, g := range goals {
		reached := "**no**"
		if g.Reached {
			reached = "yes"
		}
		t.Rows = append(t.Rows, []string{g.What, g.Goal, g.Measured, reached})
	}
	return t
}

// Median of a list that is not empty.
func Median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// Spread writes the median of a list with its least and most.
func Spread(list []float64, digits int) string {
	return fmt.Sprintf("%.*f (%.*f–%.*f)", digits, Median(list), digits, slices.Min(list), digits, slices.Max(list))
}
