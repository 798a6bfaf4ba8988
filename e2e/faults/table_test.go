package faults_test

import (
	"flag"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/kube-gatehouse/gatehouse/e2e/stage/stagetest"
)

var update = flag.Bool("update", false, "write the table into docs/staying-up.md")

// row is one of the table: what broke, what was under way, how much of it was
// served, how much failed and why it may, and how much was lost.
type row struct {
	fault, load          string
	served, failed, lost int64
	why                  string
}

// table is what was found out. It is safe for many goroutines.
type table struct {
	mu   sync.Mutex
	rows []row
}

func (p *table) add(r row) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rows = append(p.rows, r)
}

// String is the table in Markdown.
func (p *table) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var lines []string
	for _, r := range p.rows {
		lines = append(lines, fmt.Sprintf("| %s | %s | %d | %d | %s | %d |\n", r.fault, r.load, r.served, r.failed, r.why, r.lost))
	}
	slices.Sort(lines)
	return "| what breaks | under way | served | failed | which may fail | lost |\n|---|---|---|---|---|---|\n" + strings.Join(lines, "")
}

// Between these lines of docs/staying-up.md is the table.
const (
	tableBegin = "<!-- the table of TestFaults: go test ./faults -update -->\n"
	tableEnd   = "<!-- end of the table -->\n"
)

// counts are the two columns that differ from run to run.
var counts = regexp.MustCompile(`\| \d+ \| \d+ \| `)

// testTable: docs/staying-up.md shows each fault, what may fail, and that
// nothing is lost. How much was asked differs from run to run.
func (s *suite) testTable(t *testing.T) {
	t.Logf("what was lost:\n%s", s.rows)
	if flag.Lookup("test.run").Value.String() != "" {
		t.Log("not all was run: the page is not compared")
		return
	}
	page := stagetest.ReadPage(t, "staying-up.md", tableBegin, tableEnd)
	if *update {
		page.Write(t, s.rows.String())
		return
	}
	if got, want := counts.ReplaceAllString(s.rows.String(), ""), counts.ReplaceAllString(page.Shown(), ""); got != want {
		page.Differs(t)
	}
}
