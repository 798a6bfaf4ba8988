package faults_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
)

// feed is a row of ConfigMaps that one writer makes, each once the one before is
// acknowledged, and that watchers follow as informers do. Everybody has client-go.
type feed struct {
	label    string
	api      typedcorev1.ConfigMapInterface
	pause    time.Duration
	writes   *tally
	watches  *tally
	acked    atomic.Int64 // ConfigMaps from 0 on that the server acknowledged
	watchers []*watcher

	stopping, stopped chan struct{}
	end               context.CancelFunc
}

// feedLabel is on each ConfigMap, with the name of its feed.
const feedLabel = "faults.example.com/feed"

// clientGo returns client-go over connections of its own.
func clientGo(t *testing.T, config *rest.Config, over string) typedcorev1.ConfigMapInterface {
	t.Helper()
	config = rest.CopyConfig(config)
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	config.Dial = (&net.Dialer{Timeout: limit}).DialContext // client-go shares connections between equal configs
	if over == http1 {
		config.NextProtos = []string{"http/1.1"}
	}
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return set.CoreV1().ConfigMaps("dev")
}

// config is client-go's for somebody behind a gatehouse of the suite.
func (s *suite) config(url string, p person) *rest.Config {
	return &rest.Config{Host: url, BearerToken: p.token, TLSClientConfig: rest.TLSClientConfig{CAFile: s.front.CAFile}}
}

// startFeed starts a writer and watchers. How writes and watches end goes to two
// tallies, which may be one.
func startFeed(t *testing.T, label string, api typedcorev1.ConfigMapInterface, watchers int, pause time.Duration, writes, watches *tally) *feed {
	t.Helper()
	ctx, end := context.WithCancel(context.WithoutCancel(t.Context()))
	f := &feed{
		label: label, api: api, pause: pause, writes: writes, watches: watches, end: end,
		stopping: make(chan struct{}), stopped: make(chan struct{}),
	}
	var wait sync.WaitGroup
	for range watchers {
		w := &watcher{feed: f}
		f.watchers = append(f.watchers, w)
		wait.Go(func() { w.run(ctx) })
	}
	go f.write(ctx)
	t.Cleanup(func() {
		end()
		<-f.stopped
		wait.Wait()
	})
	return f
}

// stopFeeds ends the writers, and counts every watcher that does not see the
// last ConfigMap as having lost what it did not see.
func stopFeeds(t *testing.T, feeds ...*feed) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for _, f := range feeds {
		close(f.stopping)
	}
	for _, f := range feeds {
		<-f.stopped
	}
	for _, f := range feeds {
		f.awaitWatchers(ctx)
		f.end()
		f.checkWritten(t.Context())
	}
}

func (f *feed) awaitWatchers(ctx context.Context) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for f.behind() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.watches.lose(f.behind(), "%s: watchers have not seen everything after %s", f.label, limit)
			return
		}
	}
}

// behind is how many events are still to be seen, by all watchers together.
func (f *feed) behind() int64 {
	var missing int64
	for _, w := range f.watchers {
		missing += f.acked.Load() - w.seen.Load()
	}
	return missing
}

// checkWritten counts what was acknowledged and is not there.
func (f *feed) checkWritten(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	list, err := f.list(ctx)
	if err != nil {
		f.writes.lose(1, "%s: the last list: %v", f.label, err)
		return
	}
	if missing := f.acked.Load() - int64(len(list.Items)); missing != 0 {
		f.writes.lose(max(missing, 1), "%s: %d ConfigMaps were acknowledged, %d are there", f.label, f.acked.Load(), len(list.Items))
	}
}

func (f *feed) list(ctx context.Context) (*corev1.ConfigMapList, error) {
	return f.api.List(ctx, metav1.ListOptions{LabelSelector: feedLabel + "=" + f.label})
}

func (f *feed) write(ctx context.Context) {
	defer close(f.stopped)
	tick := time.NewTicker(f.pause)
	defer tick.Stop()
	for n := int64(0); f.make(ctx, n); n++ {
		f.acked.Store(n + 1)
		f.writes.serve()
		select {
		case <-tick.C:
		case <-f.stopping:
			return
		case <-ctx.Done():
			return
		}
	}
}

// make makes the ConfigMap with number n. What fails is tried again, as a
// controller does: it then exists if the server only could not say so. It
// returns false at the end of ctx.
func (f *feed) make(ctx context.Context, n int64) bool {
	object := &corev1.ConfigMap{}
	object.Name, object.Labels = fmt.Sprintf("%s-%d", f.label, n), map[string]string{feedLabel: f.label}
	for attempt := 0; ; attempt++ {
		began := time.Now()
		_, err := f.api.Create(ctx, object, metav1.CreateOptions{})
		switch {
		case err == nil:
			return true
		case ctx.Err() != nil:
			return false
		case apierrors.IsAlreadyExists(err) && attempt > 0:
			return true
		case apierrors.IsAlreadyExists(err):
			f.writes.lose(1, "%s: a write was repeated that had been carried out: %v", object.Name, err)
			return true
		}
		f.writes.fail(failure{began, time.Now(), "create " + object.Name, err})
		select {
		case <-time.After(100 * time.Millisecond): // as controllers wait
		case <-ctx.Done():
			return false
		}
	}
}

// errBroken says that a watch broke with an error. An informer then lists
// everything again, where it goes on from the last event if a watch just ends.
var errBroken = errors.New("the watch broke with an error")

// watcher follows a feed: it lists, watches from there, and where a watch ends
// goes on from the last event.
type watcher struct {
	feed    *feed
	seen    atomic.Int64 // ConfigMaps from 0 on
	version string       // to go on from; "" is to list first
}

func (w *watcher) run(ctx context.Context) {
	for ctx.Err() == nil {
		began := time.Now()
		err := w.round(ctx)
		if err == nil || ctx.Err() != nil {
			continue
		}
		w.feed.watches.fail(failure{began, time.Now(), "watch " + w.feed.label, err})
		select {
		case <-time.After(100 * time.Millisecond): // as informers wait
		case <-ctx.Done():
		}
	}
}

// round lists if it must, and watches until the watch ends.
func (w *watcher) round(ctx context.Context) error {
	if w.version == "" {
		list, err := w.feed.list(ctx)
		if err != nil {
			return err
		}
		w.take(list)
	}
	events, err := w.feed.api.Watch(ctx, metav1.ListOptions{
		LabelSelector: feedLabel + "=" + w.feed.label, ResourceVersion: w.version, AllowWatchBookmarks: true,
	})
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		w.version = ""
		return nil
	}
	if err != nil {
		return err
	}
	defer events.Stop()
	for event := range events.ResultChan() {
		if err := w.see(ctx, event); err != nil {
			return err
		}
	}
	return nil
}

// take compares a list with what was seen: it may hold more, and not less.
func (w *watcher) take(list *corev1.ConfigMapList) {
	w.version = list.ResourceVersion
	numbers := make([]int64, 0, len(list.Items))
	for i := range list.Items {
		numbers = append(numbers, w.feed.number(&list.Items[i]))
	}
	slices.Sort(numbers)
	for i, n := range numbers {
		if int64(i) != n {
			w.feed.watches.lose(1, "%s: a list leaves out number %d", w.feed.label, i)
			break
		}
	}
	if missing := w.seen.Load() - int64(len(numbers)); missing > 0 {
		w.feed.watches.lose(missing, "%s: a list goes back by %d", w.feed.label, missing)
	}
	w.seen.Store(int64(len(numbers)))
}

func (f *feed) number(object *corev1.ConfigMap) int64 {
	n, err := strconv.ParseInt(strings.TrimPrefix(object.Name, f.label+"-"), 10, 64)
	if err != nil {
		f.watches.lose(1, "%s: %s is no part of it", f.label, object.Name)
	}
	return n
}

func (w *watcher) see(ctx context.Context, event watch.Event) error {
	if event.Type == watch.Error {
		err := apierrors.FromObject(event.Object)
		if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			w.version = ""
			return nil
		}
		if ctx.Err() != nil {
			return nil // the test is over
		}
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	object, ok := event.Object.(*corev1.ConfigMap)
	if !ok {
		return fmt.Errorf("an event with %T", event.Object)
	}
	w.version = object.ResourceVersion
	if event.Type != watch.Added {
		return nil // a bookmark
	}
	n, due := w.feed.number(object), w.seen.Load()
	switch {
	case n > due:
		w.feed.watches.lose(n-due, "%s: number %d came where %d was due", w.feed.label, n, due)
	case n < due:
		w.feed.watches.lose(1, "%s: number %d came twice", w.feed.label, n)
	}
	w.seen.Store(n + 1)
	w.feed.watches.serve()
	return nil
}

// follows returns an error until every watcher has seen number n.
func (f *feed) follows(n int64) error {
	for _, w := range f.watchers {
		if w.seen.Load() < n {
			return errors.New(f.label + ": a watcher has not begun")
		}
	}
	return nil
}
