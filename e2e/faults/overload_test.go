package faults_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
)

const (
	// capacity is how many requests may be under way; tenfold of it asks.
	capacity, overload = 40, 400
	// crowd is how many people they are: none may have more than half.
	crowd = 10
	// eachAsks is how often each caller must be served.
	eachAsks = 3
	// overloadMemory is what the resident memory may grow by while ten times too
	// many ask, each over a connection of its own.
	overloadMemory = 96 << 20
)

// Promise: when ten times as many ask as may, those who are let in are served,
// and never more than the limit at a time; the others are told at once to come
// back in a second, as client-go does, and are then served. Memory stays bounded,
// and afterwards everything is as before.
func (s *suite) testOverload(t *testing.T) {
	w := newWire(t, s.apiServerAddress())
	g := s.startGatehouse(t, gatehouse.Config{Binary: s.plain}, map[string]string{
		"GATEHOUSE_KUBECONFIG":            w.kubeconfig(t, s),
		"GATEHOUSE_MAX_REQUESTS":          fmt.Sprint(capacity),
		"GATEHOUSE_MAX_REQUESTS_PER_USER": fmt.Sprint(capacity),
	})
	people := make([]person, crowd)
	for i := range people {
		people[i] = s.person("developers")
	}
	client := s.client(t, http1)
	for _, p := range people {
		if err := read(p.token).once(t.Context(), client, g.URL()); err != nil {
			t.Fatal(err)
		}
	}
	w.slow(slowBy) // else too few are under way at a time
	before := mustMetrics(t, g)
	watching, stop := context.WithCancel(t.Context())
	memory := watchMemory(watching, g)

	count, turnedAway := s.rush(t, client, g, people)
	stop()
	mostMemory := <-memory
	w.slow(0)
	for _, p := range people {
		if err := read(p.token).once(t.Context(), client, g.URL()); err != nil {
			t.Errorf("after the overload: %v", err)
		}
	}
	most := s.mostAtATime(t, people)
	if most > capacity {
		t.Errorf("the API server had %d requests at a time, the limit is %d", most, capacity)
	}
	const mebi = 1 << 20
	memoryBefore := before.sum("process_resident_memory_bytes")
	if mostMemory-memoryBefore > overloadMemory {
		t.Errorf("the resident memory grew from %.0f to %.0f MiB", memoryBefore/mebi, mostMemory/mebi)
	}
	if turnedAway == 0 {
		t.Error("nobody was turned away: it was no overload")
	}
	if rejected := mustMetrics(t, g).sum("gatehouse_rejected_total"); int64(rejected) != turnedAway {
		t.Errorf("the metrics count %v rejections, %d were seen", rejected, turnedAway)
	}
	t.Logf("at most %d at a time, and %.0f MiB resident; %.0f before", most, mostMemory/mebi, memoryBefore/mebi)
	count.allow(turnedAway)
	count.report(t, s.rows, row{
		fault: "ten times as many requests as may be under way", load: fmt.Sprintf("%d callers who come back when they are told to", overload),
		why: "beyond the limit: 429 with Retry-After, and each is served when it comes back",
	})
}

// rush has all callers ask at the same time, and returns how often one was turned
// away.
func (s *suite) rush(t *testing.T, client *http.Client, g *gatehouse.Instance, people []person) (count *tally, turnedAway int64) {
	count = &tally{}
	var away atomic.Int64
	var wait sync.WaitGroup
	for i := range overload {
		wait.Go(func() {
			for range eachAsks {
				s.askUntilServed(t.Context(), client, g, read(people[i%crowd].token), count, &away)
			}
		})
	}
	wait.Wait()
	return count, away.Load()
}

// askUntilServed asks again for as long as it is told to come back. Whatever is
// neither served nor told so is lost.
func (s *suite) askUntilServed(ctx context.Context, client *http.Client, g *gatehouse.Instance, a ask, count *tally, turnedAway *atomic.Int64) {
	ctx, cancel := context.WithTimeout(ctx, 4*limit)
	defer cancel()
	for {
		answered, err := a.send(ctx, client, g.URL())
		switch {
		case err != nil:
			count.lose(1, "%v", err)
			return
		case answered.StatusCode == http.StatusOK:
			count.serve()
			return
		case answered.StatusCode != http.StatusTooManyRequests || answered.Header.Get("Retry-After") != "1":
			count.lose(1, "%s, Retry-After %q: %s", answered.Status, answered.Header.Get("Retry-After"), answered.body)
			return
		}
		turnedAway.Add(1)
		select {
		case <-time.After(time.Second): // as it was told
		case <-ctx.Done():
			count.lose(1, "%v", errors.Join(ctx.Err(), errors.New("turned away all the time")))
			return
		}
	}
}

// watchMemory looks at the resident memory again and again, until ctx ends, and
// tells the most that it saw.
func watchMemory(ctx context.Context, g *gatehouse.Instance) <-chan float64 {
	result := make(chan float64, 1)
	go func() {
		var most float64
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			if m, err := readMetrics(ctx, g); err == nil {
				most = max(most, m.sum("process_resident_memory_bytes"))
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
		result <- most
	}()
	return result
}

// mostAtATime is how many requests of people the API server had at a time, by its
// audit log.
func (s *suite) mostAtATime(t *testing.T, people []person) int {
	t.Helper()
	events, err := s.Cluster.AuditEvents()
	if err != nil {
		t.Fatal(err)
	}
	type change struct {
		at time.Time
		by int
	}
	var changes []change
	for _, e := range events {
		ours := e.ImpersonatedUser != nil && slices.ContainsFunc(people, func(p person) bool { return p.name == e.ImpersonatedUser.Username })
		if ours && e.Stage == auditv1.StageResponseComplete {
			changes = append(changes, change{e.RequestReceivedTimestamp.Time, 1}, change{e.StageTimestamp.Time, -1})
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return a.at.Compare(b.at) })
	most, present := 0, 0
	for _, c := range changes {
		present += c.by
		most = max(most, present)
	}
	if most == 0 {
		t.Error("the API server recorded none of the requests")
	}
	return most
}
