package streaming_test

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/kube-gatehouse/gatehouse/e2e/stage/stagetest"
)

var update = flag.Bool("update", false, "write the table into docs/streaming.md")

// table is what passed. It is safe for many goroutines.
type table struct {
	mu    sync.Mutex
	cells map[cell]bool
}

func (p *table) add(c cell) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cells == nil {
		p.cells = map[cell]bool{}
	}
	p.cells[c] = true
}

// String is the table in Markdown.
func (p *table) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	columns := []string{webSocket, spdy, http2, http1}
	rows := map[string][]string{}
	for c := range p.cells {
		name := "| " + c.verb + " | " + c.client
		if rows[name] == nil {
			rows[name] = slices.Repeat([]string{""}, len(columns))
		}
		rows[name][slices.Index(columns, c.over)] = "ok"
	}
	lines := make([]string, 0, len(rows))
	for name, oks := range rows {
		lines = append(lines, name+" | "+strings.Join(oks, " | ")+" |\n")
	}
	slices.Sort(lines)
	return fmt.Sprintf("| what | client | %s |\n|---|---|%s\n%s",
		strings.Join(columns, " | "), strings.Repeat("---|", len(columns)), strings.Join(lines, ""))
}

// Between these lines of docs/streaming.md is the table.
const (
	tableBegin = "<!-- the table of TestStreaming: go test ./streaming -update -->\n"
	tableEnd   = "<!-- end of the table -->\n"
)

// testTable: docs/streaming.md shows what passed, no more and no less.
func (s *suite) testTable(t *testing.T) {
	t.Logf("what passed:\n%s", s.passed)
	if flag.Lookup("test.run").Value.String() != "" {
		t.Log("not all was run: the page is not compared")
		return
	}
	if !canRunOthers() {
		t.Log("some clients do not run here: the page is not compared")
		return
	}
	page := stagetest.ReadPage(t, "streaming.md", tableBegin, tableEnd)
	if page.Shown() == s.passed.String() {
		return
	}
	if !*update {
		page.Differs(t)
	}
	page.Write(t, s.passed.String())
}
