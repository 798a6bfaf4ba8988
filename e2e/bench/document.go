package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"text/template"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/bench/report"
)

//go:embed benchmarks.md.tmpl
var benchmarksTemplate string

//go:embed scaling.md.tmpl
var scalingTemplate string

// writeDocuments writes benchmarks.md and scaling.md into the folder of the
// options, from the outcomes of every experiment.
func writeDocuments(o options, m machine, outcomes map[string]outcome) error {
	var goals []report.Goal
	var sideBySide, slopes []string
	for _, e := range experiments() {
		out, ok := outcomes[e.name]
		if !ok {
			return fmt.Errorf("the documents need every experiment, and %s was not measured", e.name)
		}
		goals = append(goals, out.goals...)
		if e.scaling {
			slopes = append(slopes, out.table.Markdown())
		} else {
			sideBySide = append(sideBySide, out.table.Markdown())
		}
	}
	err := write(filepath.Join(o.docs, "benchmarks.md"), benchmarksTemplate, struct {
		Goals           string
		Machine         machine
		Rounds, Workers int
		Length, Warm    time.Duration
		TokenBytes      int
		Tables          []string
	}{report.Goals(goals).Markdown(), m, o.rounds, o.workers, o.length, o.warm, m.TokenBytes, sideBySide})
	if err != nil {
		return err
	}
	s, err := scale(outcomes)
	if err != nil {
		return err
	}
	s.Tables = slopes
	return write(filepath.Join(o.docs, "scaling.md"), scalingTemplate, s)
}

// write fills a template in.
func write(path, text string, data any) error {
	t, err := template.New(filepath.Base(path)).Option("missingkey=error").Parse(text)
	if err != nil {
		return fmt.Errorf("read the template of %s: %w", path, err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
