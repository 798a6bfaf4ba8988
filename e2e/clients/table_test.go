package clients_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/e2e/stage/stagetest"
)

var update = flag.Bool("update", false, "write the tables into docs/clients.md")

// outcome is what came of an operation on one route.
type outcome struct {
	ok bool
	// said is all that can be compared: what was printed, and how it ended.
	said string
	// fault says what went wrong, if it is not ok.
	fault string
}

// came is what came of something that printed this, and may have failed.
func came(said string, err error) outcome {
	o := outcome{ok: err == nil, said: said}
	if err != nil {
		o.fault = err.Error()
		o.said += "\n" + o.fault
	}
	return o
}

// skew is what a version of a client cannot do with such a new API server.
func skew() []cell {
	return []cell{
		{"kubectl", "v1.27.1", "auth whoami"}, // asks for beta versions of the API, which are gone
	}
}

// cell is one of the tables: which client did what.
type cell struct{ client, version, operation string }

// Names of clients.
const (
	clientGo         = "client-go"
	nodeClient       = "@kubernetes/client-node"
	prometheusClient = "Prometheus' service discovery"
	pythonClient     = "Python's client"
	terraform        = "Terraform"
)

// What stands in a cell.
const (
	passed = "ok"
	hasNot = "-"
	// A mark for what fails at the API server too; a note says how.
	failsToo = "fails alike"
)

// compare is compareWithin the usual time.
func (s *suite) compare(t *testing.T, c cell, direct, through func(context.Context) outcome) {
	t.Helper()
	s.compareWithin(t, c, limit, direct, through)
}

// compareWithin does one thing at the API server and through gatehouse, and demands
// the same outcome.
func (s *suite) compareWithin(t *testing.T, c cell, within time.Duration, direct, through func(context.Context) outcome) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var a, b outcome
	var both sync.WaitGroup
	both.Go(func() { a = direct(ctx) })
	both.Go(func() { b = through(ctx) })
	both.Wait()
	if diff := cmp.Diff(s.plain(a.said), s.plain(b.said)); diff != "" || a.ok != b.ok {
		t.Errorf("%s %s, %s: through gatehouse (+) it is not as at the API server (-): %v, %v\n%s", c.client, c.version, c.operation, b.ok, a.ok, diff)
		return
	}
	switch {
	case a.ok:
		s.found.add(c, passed)
	case slices.Contains(skew(), c):
		s.found.fails(c, s.plain(lastLine(a.fault)))
	default:
		t.Errorf("%s %s, %s: it fails at the API server and through gatehouse:\n%s", c.client, c.version, c.operation, a.said)
	}
}

// plain leaves out of what a client printed what differs between any two runs.
func (s *suite) plain(said string) string {
	for _, r := range []struct{ pattern, with string }{
		{regexp.QuoteMeta(s.direct.server) + "|" + regexp.QuoteMeta(s.through.server), "SERVER"},
		{`\b[\w-]+-side-[ab]\b`, "NAMESPACE"},
		{`(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \w{3} +\d+ \d\d:\d\d:\d\d \d{4}`, "TIME"},
		{`eyJ[\w-]+\.[\w-]+\.[\w-]+`, "TOKEN"},
		{`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`, "UID"},
		{`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( [+-]\d{4})?( UTC)?(Z|[+-]\d\d:\d\d)?`, "TIME"},
		{`(?i)("?resourceVersion"?: *"?)\d+`, "${1}VERSION"},
		{`(?m)(\d+[dhms])+$`, "AGE"},
		{`[EWI]\d{4} [\d:.]+ +\d+ `, ""},
		{`/tmp/[\w./-]+`, "FILE"},
	} {
		said = regexp.MustCompile(r.pattern).ReplaceAllString(said, r.with)
	}
	return said
}

// results is what was found out. It is safe for many goroutines.
type results struct {
	mu     sync.Mutex
	cells  map[cell]string
	order  []cell // as they were first seen
	faults map[cell]string
	absent []string // the clients that this machine has not
}

// leaveOut says that this machine has not a client.
func (r *results) leaveOut(t *testing.T, client string) {
	t.Helper()
	t.Logf("%s is left out: this machine has it not", client)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.absent = append(r.absent, client)
}

func (r *results) add(c cell, what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cells == nil {
		r.cells, r.faults = map[cell]string{}, map[cell]string{}
	}
	r.cells[c], r.order = what, append(r.order, c)
}

func (r *results) fails(c cell, how string) {
	r.add(c, failsToo)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults[c] = how
}

// clients are those of which something was found out, in order.
func (r *results) clients() []string {
	names := map[string]bool{}
	for _, c := range r.order {
		names[c.client] = true
	}
	var all []string
	for name := range names {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// String is a table for each client, in Markdown.
func (r *results) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, client := range r.clients() {
		r.table(&b, client)
	}
	return b.String()
}

func (r *results) table(b *strings.Builder, client string) {
	var versions, operations []string
	for _, c := range r.order {
		if c.client != client {
			continue
		}
		if !slices.Contains(versions, c.version) {
			versions = append(versions, c.version)
		}
		if !slices.Contains(operations, c.operation) {
			operations = append(operations, c.operation)
		}
	}
	slices.SortFunc(versions, byVersion)
	slices.SortStableFunc(operations, lastIfRefreshed)
	fmt.Fprintf(b, sectionBegin+"%s\n\n| | %s |\n|---|%s\n", client, strings.Join(versions, " | "), strings.Repeat("---|", len(versions)))
	var notes []string
	for _, operation := range operations {
		fmt.Fprintf(b, "| %s |", operation)
		for _, version := range versions {
			c := cell{client, version, operation}
			fmt.Fprintf(b, " %s |", r.cells[c])
			if how, ok := r.faults[c]; ok {
				notes = append(notes, fmt.Sprintf("- %s with %s: `%s`\n", operation, version, how))
			}
		}
		b.WriteString("\n")
	}
	if len(notes) > 0 {
		b.WriteString("\nWhat fails alike, at the API server and through gatehouse:\n\n" + strings.Join(notes, ""))
	}
}

// lastIfRefreshed orders what runs beside all else behind it.
func lastIfRefreshed(a, b string) int {
	across := func(operation string) int {
		if strings.Contains(operation, refreshes) {
			return 1
		}
		return 0
	}
	if by := across(a) - across(b); by != 0 || across(a) == 0 {
		return by
	}
	return strings.Compare(a, b)
}

// byVersion orders 1.9 before 1.10.
func byVersion(a, b string) int {
	numbers := func(version string) []int {
		var all []int
		for _, text := range regexp.MustCompile(`\d+`).FindAllString(version, -1) {
			n, _ := strconv.Atoi(text) // it is digits alone
			all = append(all, n)
		}
		return all
	}
	return slices.Compare(numbers(a), numbers(b))
}

// lastLine is the last thing that a client said.
func lastLine(said string) string {
	lines := strings.Split(strings.TrimSpace(said), "\n")
	return lines[len(lines)-1]
}

// minorOf is 37 of v1.37.2.
func minorOf(t *testing.T, version string) int {
	t.Helper()
	parts := strings.Split(version, ".")
	if len(parts) < 2 {
		t.Fatalf("the version %q", version)
	}
	minor, err := strconv.Atoi(parts[1])
	if err != nil {
		t.Fatalf("the version %q: %v", version, err)
	}
	return minor
}

// Between these lines of docs/clients.md are the tables.
const (
	tableBegin = "<!-- the tables of TestClients: go test ./clients -update -->\n"
	tableEnd   = "<!-- end of the tables -->\n"
	// A client's part begins with this and its name.
	sectionBegin = "\n### "
)

// Promise: docs/clients.md shows what was found out, no more and no less. A client
// that the machine brings, and has not or in another version, is not compared.
func (s *suite) testTable(t *testing.T) {
	t.Logf("what was found out:\n%s", s.found)
	if flag.Lookup("test.run").Value.String() != "" {
		t.Log("not all was run: the page is not compared")
		return
	}
	page := stagetest.ReadPage(t, "clients.md", tableBegin, tableEnd)
	shown, got := sections(page.Shown()), sections(s.found.String())
	for _, client := range s.found.absent {
		got[client] = shown[client]
	}
	for _, client := range []string{pythonClient, terraform} {
		if !*update && header(got[client]) != header(shown[client]) {
			t.Logf("this is another version of %s: it is not compared", client)
			got[client] = shown[client]
		}
	}
	want := joined(got)
	if page.Shown() == want {
		return
	}
	if !*update {
		t.Log(cmp.Diff(page.Shown(), want))
		page.Differs(t)
	}
	page.Write(t, want)
}

// sections are the parts of the page about a client each.
func sections(text string) map[string]string {
	all := map[string]string{}
	for part := range strings.SplitSeq(text, sectionBegin) {
		if client, _, ok := strings.Cut(part, "\n"); ok && client != "" {
			all[client] = sectionBegin + part
		}
	}
	return all
}

// header is the line of a table with the versions.
func header(section string) string {
	_, table, _ := strings.Cut(section, "\n\n")
	line, _, _ := strings.Cut(table, "\n")
	return line
}

// joined puts the sections together, by the names of the clients.
func joined(sections map[string]string) string {
	var b strings.Builder
	for _, client := range slices.Sorted(maps.Keys(sections)) {
		b.WriteString(sections[client])
	}
	return b.String()
}
