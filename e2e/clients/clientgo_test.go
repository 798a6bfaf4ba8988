package clients_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/kube-gatehouse/gatehouse/e2e/build"
)

func clientGoVersion() string { return strings.Replace(build.KubernetesVersion, "v1", "v0", 1) }

// clientSet is client-go with a kubeconfig.
func clientSet(t *testing.T, kubeconfig string) *kubernetes.Clientset {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// informer watches ConfigMaps across token refreshes: after each one is made.
func (s *suite) informer(t *testing.T) func(route, string) func(context.Context) outcome {
	admin := clientSet(t, s.Cluster.AdminKubeconfig())
	return func(r route, namespace string) func(context.Context) outcome {
		name := "informer-" + r.name
		c := s.credential(t, name, "clients")
		set := clientSet(t, c.pluginConfig(t, s, r))
		return func(ctx context.Context) outcome {
			said, err := inform(ctx, set, admin, c, namespace)
			if err == nil {
				err = s.listedOnce(name)
			}
			if err == nil && r == s.through {
				_, err = s.gate.AwaitLog(ctx, name+"@example.com", `"verb":"watch"`, `"ended":"expired"`)
			}
			return came(said, err)
		}
	}
}

// inform returns the names of what an informer sees, in order.
func inform(ctx context.Context, set, admin kubernetes.Interface, c *credential, namespace string) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := make(chan string, 100)
	factory := informers.NewSharedInformerFactoryWithOptions(set, 0, informers.WithNamespace(namespace))
	maps := factory.Core().V1().ConfigMaps().Informer()
	_, err := maps.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { events <- "added " + o.(*corev1.ConfigMap).Name },
		DeleteFunc: func(any) { events <- "deleted one" },
	})
	if err != nil {
		return "", err
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	defer cancel()
	if !cache.WaitForCacheSync(ctx.Done(), maps.HasSynced) {
		return "", errors.New("the informer did not fill")
	}
	seen := []string{<-events} // kube-root-ca.crt, which every namespace has
	for round := range *rounds {
		if err := c.outlive(ctx); err != nil {
			return "", err
		}
		made := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("round-%d", round)}}
		if _, err := admin.CoreV1().ConfigMaps(namespace).Create(ctx, made, metav1.CreateOptions{}); err != nil {
			return "", err
		}
		select {
		case event := <-events:
			seen = append(seen, event)
		case <-ctx.Done():
			return "", fmt.Errorf("%q was not seen: %w; seen was %q", made.Name, ctx.Err(), seen)
		}
	}
	if len(events) > 0 {
		return "", fmt.Errorf("more was seen: %s", <-events)
	}
	return strings.Join(seen, "\n"), nil
}

// listedOnce fails if the person listed ConfigMaps again: client-go lists by a
// watch that sends what there is first.
func (s *suite) listedOnce(name string) error {
	events, err := s.Cluster.AuditEvents()
	if err != nil {
		return err
	}
	var lists, watches int
	for _, e := range events {
		user := e.User.Username
		if e.ImpersonatedUser != nil {
			user = e.ImpersonatedUser.Username
		}
		switch {
		case user != name+"@example.com" || e.Stage != "ResponseComplete":
		case e.Verb == "list" || strings.Contains(e.RequestURI, "sendInitialEvents=true"):
			lists++
		case e.Verb == "watch":
			watches++
		}
	}
	if lists != 1 {
		return fmt.Errorf("%d lists and %d other watches, want 1 list", lists, watches)
	}
	return nil
}

// election has a leader go on across token refreshes, and then hand over.
func (s *suite) election(t *testing.T) func(route, string) func(context.Context) outcome {
	admin := clientSet(t, s.Cluster.AdminKubeconfig())
	return func(r route, namespace string) func(context.Context) outcome {
		candidates := map[string]*kubernetes.Clientset{}
		var c *credential
		for _, name := range []string{"second", "first"} {
			c = s.credential(t, name+"-"+r.name, "clients")
			candidates[name] = clientSet(t, c.pluginConfig(t, s, r))
		}
		return func(ctx context.Context) outcome {
			said, err := elect(ctx, candidates, admin, c, namespace)
			return came(said, err)
		}
	}
}

// electTimes are those of kube-controller-manager.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// elect returns who led, in order. c is the credential of the first.
func elect(ctx context.Context, candidates map[string]*kubernetes.Clientset, admin kubernetes.Interface, c *credential, namespace string) (string, error) {
	events := make(chan string, 100)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	first, resign := context.WithCancel(ctx)
	defer resign()
	if err := run(first, "first", candidates["first"], namespace, events); err != nil {
		return "", err
	}
	seen, err := next(ctx, nil, events)
	if err != nil {
		return "", err
	}
	if err := run(ctx, "second", candidates["second"], namespace, events); err != nil {
		return "", err
	}
	for range *rounds {
		if err := c.outlive(ctx); err != nil {
			return "", err
		}
		if err := awaitRenewal(ctx, admin, namespace); err != nil {
			return "", err
		}
	}
	if len(events) > 0 {
		return "", fmt.Errorf("%s, and nobody asked for it", <-events)
	}
	resign()
	for range 2 {
		if seen, err = next(ctx, seen, events); err != nil {
			return "", err
		}
	}
	return strings.Join(seen, "\n"), nil
}

// next adds the next event to those that were seen.
func next(ctx context.Context, seen []string, events <-chan string) ([]string, error) {
	select {
	case event := <-events:
		return append(seen, event), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w; seen was %q", ctx.Err(), seen)
	}
}

// run has a candidate stand until ctx ends.
func run(ctx context.Context, name string, set *kubernetes.Clientset, namespace string, events chan<- string) error {
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta: metav1.ObjectMeta{Namespace: namespace, Name: "leader"}, Client: set.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: name},
		},
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod, ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { events <- name + " leads" },
			OnStoppedLeading: func() { events <- name + " stopped" },
		},
	})
	if err != nil {
		return fmt.Errorf("stand for election: %w", err)
	}
	go elector.Run(ctx)
	return nil
}

// awaitRenewal waits until the first renews its lease after now.
func awaitRenewal(ctx context.Context, admin kubernetes.Interface, namespace string) error {
	since := time.Now()
	w, err := admin.CoordinationV1().Leases(namespace).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=leader"})
	if err != nil {
		return err
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		lease, ok := event.Object.(*coordinationv1.Lease)
		if !ok {
			return fmt.Errorf("the watch brought %T", event.Object)
		}
		if holder := *lease.Spec.HolderIdentity; holder != "first" {
			return fmt.Errorf("%s leads", holder)
		}
		if lease.Spec.RenewTime.After(since) {
			return nil
		}
	}
	return fmt.Errorf("await a renewal: %w", ctx.Err())
}
