package faults_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
)

const (
	// feeds is how many writers there are through gatehouse, and as many
	// directly; watchersEach are those of one feed through gatehouse.
	feeds        = 20
	watchersEach = 50
	// directEach is the same of the reference: its losses are of interest, and
	// not its load.
	directEach = 2
)

// outage is the time in which the API server could not serve.
type outage struct{ from, to time.Time }

// explains reports whether a failure falls into the outage: it began before the
// API server was back, and ended after it was gone.
func (o outage) explains(f failure) bool { return f.began.Before(o.to) && f.ended.After(o.from) }

// side is one way to the API server: through gatehouse, or directly.
type side struct {
	calls, watches tally
	feeds          []*feed
	reads          []callers
}

// Promise: when the API server is killed and comes back, every write that was
// acknowledged is there, every watch sees every event, and nothing fails that
// began after it was back. No informer has to list everything again because of
// gatehouse, and what fails meanwhile is no more than without it.
func (s *suite) testAPIServerKilled(t *testing.T) {
	g := s.startGatehouse(t, gatehouse.Config{Binary: s.plain}, nil)
	admin, err := clientcmd.BuildConfigFromFlags("", s.Cluster.AdminKubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	direct, through := &side{}, &side{}
	for i := range feeds {
		p := s.person("developers")
		through.start(t, fmt.Sprintf("killed-%d", i), clientGo(t, s.config(g.URL(), p), http2), watchersEach)
		same := rest.CopyConfig(admin)
		same.Impersonate = rest.ImpersonationConfig{UserName: p.name, Groups: []string{"oidc:developers"}}
		direct.start(t, fmt.Sprintf("direct-%d", i), clientGo(t, same, http2), directEach)
	}
	for _, one := range []*side{through, direct} {
		for _, f := range one.feeds {
			eventually(t, limit, func() error { return f.follows(2) })
		}
	}
	gone := outage{from: time.Now()}
	s.Cluster.KillAPIServer()
	if err := s.Cluster.StartAPIServer(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	gone.to = time.Now()
	for _, one := range []*side{through, direct} {
		one.goOn(t)
	}
	for _, one := range []*side{through, direct} {
		one.stop(t)
		one.calls.judge(gone.explains)
	}
	direct.watches.judge(gone.explains)
	through.watches.judge(func(f failure) bool { return gone.explains(f) && !errors.Is(f.err, errBroken) })
	if through.calls.failed > direct.calls.failed {
		t.Errorf("%d calls failed through gatehouse, and %d of as many directly", through.calls.failed, direct.calls.failed)
	}
	through.report(t, s.rows, "API server killed and started again", watchersEach)
	direct.report(t, s.rows, "API server killed and started again, without gatehouse", directEach)
}

func (d *side) report(t *testing.T, rows *table, fault string, watchers int) {
	t.Helper()
	const why = "what was under way when the API server died, or began before it was back"
	d.calls.report(t, rows, row{fault: fault, load: fmt.Sprintf("%d writers and %d readers, client-go", feeds, feeds), why: why})
	d.watches.report(t, rows, row{fault: fault, load: fmt.Sprintf("%d watches, client-go", feeds*watchers), why: why})
}

func (d *side) start(t *testing.T, label string, api typedcorev1.ConfigMapInterface, watchers int) {
	t.Helper()
	f := startFeed(t, label, api, watchers, time.Second, &d.calls, &d.watches)
	d.feeds = append(d.feeds, f)
	d.reads = append(d.reads, keepReading(t, api, label+"-0", time.Second, &d.calls))
}

// goOn returns when every watch has seen a few more writes.
func (d *side) goOn(t *testing.T) {
	t.Helper()
	more := make([]int64, len(d.feeds))
	for i, f := range d.feeds {
		more[i] = f.acked.Load() + 3
	}
	for i, f := range d.feeds {
		eventually(t, 2*limit, func() error { return f.follows(more[i]) })
	}
}

func (d *side) stop(t *testing.T) {
	t.Helper()
	stopFeeds(t, d.feeds...)
	for _, r := range d.reads {
		r.stop()
	}
}

// keepReading gets the object of this name again and again with client-go.
func keepReading(t *testing.T, api typedcorev1.ConfigMapInterface, name string, pause time.Duration, count *tally) callers {
	t.Helper()
	eventually(t, limit, func() error {
		_, err := api.Get(t.Context(), name, metav1.GetOptions{})
		return err
	})
	return keepCalling(t, pause, count, "get "+name, func(ctx context.Context) error {
		_, err := api.Get(ctx, name, metav1.GetOptions{})
		return err
	})
}
