package faults_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
)

// metrics are the series of a gatehouse, each with its labels as it was printed.
type metrics map[string]float64

func readMetrics(ctx context.Context, g *gatehouse.Instance) (metrics, error) {
	code, text, err := g.Ops(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	if code != http.StatusOK {
		return nil, fmt.Errorf("metrics: status %d", code)
	}
	all := metrics{}
	for line := range strings.Lines(text) {
		name, value, found := cutLast(strings.TrimSpace(line))
		if !found || strings.HasPrefix(line, "#") {
			continue
		}
		if all[name], err = strconv.ParseFloat(value, 64); err != nil {
			return nil, fmt.Errorf("metrics: %q: %w", line, err)
		}
	}
	return all, nil
}

// cutLast cuts at the last space: label values may hold others.
func cutLast(line string) (name, value string, found bool) {
	i := strings.LastIndexByte(line, ' ')
	if i < 0 {
		return "", "", false
	}
	return line[:i], line[i+1:], true
}

// sum adds the series of this name whose labels hold every one of labels.
func (m metrics) sum(name string, labels ...string) float64 {
	var total float64
	for series, value := range m {
		bare, rest, _ := strings.Cut(series, "{")
		if bare != name {
			continue
		}
		all := true
		for _, label := range labels {
			all = all && strings.Contains(rest, label)
		}
		if all {
			total += value
		}
	}
	return total
}

// awaitMetric returns when a sum has grown by more since before.
func awaitMetric(t *testing.T, g *gatehouse.Instance, before metrics, more float64, name string, labels ...string) {
	t.Helper()
	want := before.sum(name, labels...) + more
	eventually(t, 2*limit, func() error {
		now, err := readMetrics(t.Context(), g)
		if err == nil && now.sum(name, labels...) < want {
			err = fmt.Errorf("%s%v is %v, waiting for %v", name, labels, now.sum(name, labels...), want)
		}
		return err
	})
}

func mustMetrics(t *testing.T, g *gatehouse.Instance) metrics {
	t.Helper()
	m, err := readMetrics(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
