package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/bench/load"
)

// table is what the proxies did under one kind of load.
type table struct {
	title        string
	instructions bool
	rows         []row
}

// row is one proxy, with a result for each round.
type row struct {
	name    string
	results []load.Result
}

// figure makes a number of a result.
type figure func(load.Result) float64

func cpu(r load.Result) float64 {
	return float64(r.CPU) / float64(time.Microsecond) / float64(r.Requests)
}
func rate(r load.Result) float64         { return float64(r.Requests) / r.Elapsed.Seconds() }
func instructions(r load.Result) float64 { return float64(r.Instructions) / 1000 / float64(r.Requests) }

// reference is the row that the others are compared with: the HAProxy that
// needs the least CPU, or else the first.
func (t *table) reference() *row {
	best := &t.rows[0]
	for i := range t.rows {
		r := &t.rows[i]
		is, was := strings.HasPrefix(r.name, "haproxy"), strings.HasPrefix(best.name, "haproxy")
		if is && (!was || median(r.values(cpu)) < median(best.values(cpu))) {
			best = r
		}
	}
	return best
}

func (r *row) values(f figure) []float64 {
	list := make([]float64, len(r.results))
	for i, result := range r.results {
		list[i] = f(result)
	}
	return list
}

// ratio is the median, over the rounds, of r's figure to that of other.
func (r *row) ratio(other *row, f figure) float64 {
	mine, theirs := r.values(f), other.values(f)
	for i := range mine {
		mine[i] /= theirs[i]
	}
	return median(mine)
}

// print writes the table for a reader at a terminal.
func (t *table) print(out io.Writer) {
	reference := t.reference()
	fmt.Fprintf(out, "\n%s\n", t.title)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := "proxy\tCPU µs\tleast-most\tto " + reference.name + "\treq/s\tto " + reference.name + "\tp50 µs\tp90\tp99\tp99.9\t"
	if t.instructions {
		head += "k instr.\tto " + reference.name + "\t"
	}
	fmt.Fprintln(w, head)
	for i := range t.rows {
		r := &t.rows[i]
		used := r.values(cpu)
		fmt.Fprintf(w, "%s\t%.1f\t%.1f-%.1f\t%.2f\t%.0f\t%.2f\t", r.name, median(used), slices.Min(used), slices.Max(used),
			r.ratio(reference, cpu), median(r.values(rate)), r.ratio(reference, rate))
		for _, q := range []figure{
			func(r load.Result) float64 { return micros(r.P50) }, func(r load.Result) float64 { return micros(r.P90) },
			func(r load.Result) float64 { return micros(r.P99) }, func(r load.Result) float64 { return micros(r.P999) },
		} {
			fmt.Fprintf(w, "%.0f\t", median(r.values(q)))
		}
		if t.instructions {
			fmt.Fprintf(w, "%.1f\t%.2f\t", median(r.values(instructions)), r.ratio(reference, instructions))
		}
		fmt.Fprintln(w)
	}
	w.Flush()
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// median of a list that is not empty.
func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
