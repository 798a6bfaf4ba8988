package faults_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

var soak = flag.Duration("soak", 10*time.Second, "how long the soak test lasts")

const (
	// samples is how often a soak is looked at.
	samples = 10
	// soakGoroutines, soakSeries and soakMemory are the growth that is none: of
	// what is under way at the moment of looking, and of a heap between two
	// collections.
	soakGoroutines, soakSeries = 30, 5
	soakMemory                 = 32 << 20
	// newTokens is how often each person comes with a new token.
	newTokens = time.Minute
)

// sample is what was seen of a gatehouse at a time.
type sample struct {
	at                      time.Duration
	requests, underWay      float64
	goroutines, descriptors float64
	resident, heap          float64
	series                  int
	failed                  int64
}

// Promise: however long gatehouse runs, it needs no more goroutines, descriptors
// and memory, and tells no more metric series, than after its first minutes.
func (s *suite) testSoak(t *testing.T) {
	g := s.startGatehouse(t, gatehouse.Config{Binary: s.plain}, nil)
	count := &tally{}
	var stops []func()
	for _, over := range []string{http1, http2} {
		client := s.client(t, over)
		for range 4 {
			asks := []ask{read(""), write(""), watchForAWhile(), wrong()}
			for i := range asks {
				asks[i].token = s.renewed()
			}
			stops = append(stops, keepAsking(t, client, g.URL(), 1, 100*time.Millisecond, count, asks...).stop)
		}
		fresh := s.client(t, over)
		transportOf(fresh).DisableKeepAlives = true
		asks := []ask{read(""), read("")}
		for i := range asks {
			asks[i].token = s.renewed()
		}
		stops = append(stops, keepAsking(t, fresh, g.URL(), 1, 500*time.Millisecond, count, asks...).stop)
	}
	lasting := stage.Person("lasting", "developers")
	lasting["exp"] = time.Now().Add(*soak + time.Hour).Unix()
	api := clientGo(t, s.config(g.URL(), person{token: s.Issuer.Token(lasting)}), http2)
	f := startFeed(t, "soak", api, 20, 500*time.Millisecond, count, count)
	all := takeSamples(t, g, count)
	for _, stop := range stops {
		stop()
	}
	stopFeeds(t, f)
	t.Logf("the soak:\n%s", soakTable(all))
	if err := grown(all); err != nil {
		t.Errorf("after %s: %v", *soak, err)
	}
	count.judge(nobody)
	count.report(t, s.rows, row{
		fault: "nothing, for long", load: "reads, writes, refusals, new tokens, new connections, watches that come and go and some that stay",
		why: "nothing; goroutines, descriptors, memory and metric series do not grow",
	})
}

// renewed returns the tokens of a new person, who gets another now and then.
func (s *suite) renewed() func() string {
	name, until, token := s.person().name, time.Time{}, ""
	return func() string { // one caller at a time, so that nothing guards it
		if now := time.Now(); now.After(until) {
			until, token = now.Add(newTokens), s.Issuer.Token(stage.Person(strings.TrimSuffix(name, "@example.com"), "developers"))
		}
		return token
	}
}

// wrong asks with a token that was cut off, and wants to be refused.
func wrong() ask {
	return ask{
		method: http.MethodGet, path: "/api", judge: func(a *answer) error { return refused(a, nil) },
		edit: func(token string) string { return token[:len(token)-10] },
	}
}

// watchForAWhile watches for a second; the API server then ends it.
func watchForAWhile() ask {
	return ask{
		method: http.MethodGet, path: "/api/v1/namespaces/dev/configmaps?watch=true&resourceVersion=0&timeoutSeconds=1&labelSelector=" + feedLabel + "%3Dnone",
	}
}

// takeSamples looks at g from time to time, until the soak is over.
func takeSamples(t *testing.T, g *gatehouse.Instance, count *tally) []sample {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), *soak)
	defer cancel()
	tick := time.NewTicker(*soak / samples)
	defer tick.Stop()
	began := time.Now()
	all := []sample{look(t, g, 0, count)}
	for {
		select {
		case <-tick.C:
			all = append(all, look(t, g, time.Since(began), count))
		case <-ctx.Done():
			return append(all, look(t, g, time.Since(began), count))
		}
	}
}

func look(t *testing.T, g *gatehouse.Instance, at time.Duration, count *tally) sample {
	t.Helper()
	m := mustMetrics(t, g)
	return sample{
		at: at, requests: m.sum("gatehouse_requests_total"), goroutines: m.sum("go_goroutines"), descriptors: m.sum("process_open_fds"),
		resident: m.sum("process_resident_memory_bytes"), heap: m.sum("go_memstats_heap_inuse_bytes"), series: len(m),
		failed: count.failedSoFar(), underWay: m.sum("gatehouse_requests_in_flight"),
	}
}

// grown compares the least of the second half with the least of the first: what
// is under way at the moment of looking comes and goes.
func grown(all []sample) error {
	var errs []error
	for _, one := range []struct {
		name string
		of   func(sample) float64
		most float64
	}{
		{"goroutines", func(s sample) float64 { return s.goroutines }, soakGoroutines},
		{"descriptors", func(s sample) float64 { return s.descriptors }, soakGoroutines},
		{"resident bytes", func(s sample) float64 { return s.resident }, soakMemory},
		{"metric series", func(s sample) float64 { return float64(s.series) }, soakSeries},
	} {
		half := len(all) / 2
		before, after := least(all[1:half], one.of), least(all[half:], one.of) // the caches fill before the second
		if after-before > one.most {
			errs = append(errs, fmt.Errorf("%s grew from %.0f to %.0f", one.name, before, after))
		}
	}
	return errors.Join(errs...)
}

func least(all []sample, of func(sample) float64) float64 {
	least := of(all[0])
	for _, one := range all {
		least = min(least, of(one))
	}
	return least
}

func soakTable(all []sample) string {
	var b strings.Builder
	io.WriteString(&b, "| after | requests | failed | under way | goroutines | descriptors | resident MiB | heap MiB | series |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, one := range all {
		fmt.Fprintf(&b, "| %s | %.0f | %d | %.0f | %.0f | %.0f | %.1f | %.1f | %d |\n", one.at.Round(time.Second), one.requests, one.failed,
			one.underWay, one.goroutines, one.descriptors, one.resident/(1<<20), one.heap/(1<<20), one.series)
	}
	return b.String()
}
