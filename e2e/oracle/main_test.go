package oracle_test

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"

	"k8s.io/klog/v2"
)

// tally counts what was compared.
type tally struct {
	mu                  sync.Mutex
	rows, same          int
	generated, accepted int
	divergent, drawn    map[string]int

	live, liveSame int // rows that the running API server judged
	liveDivergent  map[string]int
}

var count = &tally{divergent: map[string]int{}, drawn: map[string]int{}, liveDivergent: map[string]int{}}

func (c *tally) add(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

// drew counts what was generated, and the divergence that it shows, if any.
func (c *tally) drew(reference answer, id string) {
	c.add(func() {
		c.generated++
		if reference.user != nil {
			c.accepted++
		}
		if id != "" {
			c.drawn[id]++
		}
	})
}

func (c *tally) read(what func(*tally) int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return what(c)
}

// How many rows are compared at least, with the libraries and with the running
// API server: docs/divergences.md says so. The corpus does not shrink unseen.
const (
	leastRows = 1300
	leastLive = 600
)

// wholeRun reports whether no test was left out.
func wholeRun() bool { return flag.Lookup("test.run").Value.String() == "" }

func (c *tally) print(w io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(w, "oracle: %d rows, %d the same, %d divergent\n", c.rows, c.same, sum(c.divergent))
	printEach(w, "divergent", c.divergent)
	fmt.Fprintf(w, "oracle: running kube-apiserver: %d rows, %d the same, %d divergent\n", c.live, c.liveSame, sum(c.liveDivergent))
	printEach(w, "running divergent", c.liveDivergent)
	fmt.Fprintf(w, "oracle: %d generated, %d of them accepted, %d divergent\n", c.generated, c.accepted, sum(c.drawn))
	printEach(w, "generated divergent", c.drawn)
}

func sum(counts map[string]int) (n int) {
	for _, v := range counts {
		n += v
	}
	return n
}

func printEach(w io.Writer, what string, counts map[string]int) {
	for _, id := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(w, "oracle: %s: %4d %s\n", what, counts[id], id)
	}
}

func TestMain(m *testing.M) {
	flag.Parse()
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	code := m.Run()
	theWorld.close()
	count.print(os.Stdout)
	if err := report(os.Getenv("ORACLE_REPORT")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if code == 0 && wholeRun() && count.rows < leastRows {
		fmt.Fprintf(os.Stderr, "oracle: at least %d rows should have been compared\n", leastRows)
		code = 1
	}
	os.Exit(code)
}

// report writes the counts to a file, if one is named: go test shows what a
// package printed only if it fails, or is the only one.
func report(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	count.print(f)
	return f.Close()
}
