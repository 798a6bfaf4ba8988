package kubelet

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// pod is one that was bound to the node.
type pod struct {
	namespace, name string
	uid             types.UID
	containers      map[string]*container
	reported        corev1.PodStatus
	spec            *corev1.Pod // as it was last seen
	ending          bool        // its containers were told to end
}

// watch calls seen for every pod that a field selector matches, and again when
// it changes, and gone when it is deleted, which may be nil.
func (k *Kubelet) watch(api *kubernetes.Clientset, selector string, seen, gone func(*corev1.Pod)) {
	choose := func(o *metav1.ListOptions) { o.FieldSelector = selector }
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { seen(o.(*corev1.Pod)) },
		UpdateFunc: func(_, o any) { seen(o.(*corev1.Pod)) },
		DeleteFunc: func(o any) {
			if p, ok := o.(*corev1.Pod); ok && gone != nil {
				gone(p)
			}
		},
	}
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewFilteredListWatchFromClient(api.CoreV1().RESTClient(), "pods", metav1.NamespaceAll, choose),
		ObjectType:    &corev1.Pod{}, Handler: handler,
	})
	informer.RunWithContext(k.ctx)
}

// bind returns what a scheduler does with a pod that has no node: there is one.
func (k *Kubelet) bind(api *kubernetes.Clientset) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		binding := &corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, UID: p.UID},
			Target:     corev1.ObjectReference{Kind: "Node", Name: k.cfg.Name},
		}
		if err := api.CoreV1().Pods(p.Namespace).Bind(k.ctx, binding, metav1.CreateOptions{}); err != nil {
			k.complain("bind", p, err)
		}
	}
}

// sync starts what is to run and does not, and reports. A pod that is to be
// deleted is gone when its node says so.
func (k *Kubelet) sync(p *corev1.Pod) {
	if p.DeletionTimestamp != nil {
		k.end(p)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	known := k.pods[p.UID]
	if known == nil {
		known = &pod{namespace: p.Namespace, name: p.Name, uid: p.UID, containers: map[string]*container{}}
		k.pods[p.UID] = known
	}
	known.spec = p
	for _, c := range containersOf(p) {
		if known.containers[c.Name] == nil {
			k.startContainer(known, c)
		}
	}
	k.report(known)
}

// end ends a pod's containers and says that it is gone, once those of known images
// have ended.
func (k *Kubelet) end(p *corev1.Pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var last []*container
	if known := k.pods[p.UID]; known != nil {
		if known.ending {
			return
		}
		known.ending = true
		for _, c := range known.containers {
			c.cancel()
			if c.image != nil {
				last = append(last, c)
			}
		}
	}
	k.running.Go(func() {
		for _, c := range last {
			<-c.done
		}
		k.forget(p)
		now := metav1.NewDeleteOptions(0)
		now.Preconditions = metav1.NewUIDPreconditions(string(p.UID))
		if err := k.api.CoreV1().Pods(p.Namespace).Delete(k.ctx, p.Name, *now); err != nil && !apierrors.IsNotFound(err) {
			k.complain("delete", p, err)
		}
	})
}

// containersOf are those that run from the start and those that a debugger
// added.
func containersOf(p *corev1.Pod) []corev1.Container {
	all := p.Spec.Containers
	for _, e := range p.Spec.EphemeralContainers {
		all = append(all[:len(all):len(all)], corev1.Container(e.EphemeralContainerCommon))
	}
	return all
}

// startContainer is called with k.mu held.
func (k *Kubelet) startContainer(p *pod, spec corev1.Container) {
	dir := filepath.Join(k.cfg.Dir, string(p.uid), spec.Name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		k.complain("make a folder for", p.spec, err)
		return
	}
	c := newContainer(k.ctx, dir, spec)
	p.containers[spec.Name] = c
	if image, known := k.cfg.Images[spec.Image]; known {
		c.image = &image
		now := p.spec // which the next change replaces
		k.running.Go(func() { k.runImage(c, now) })
		return
	}
	if k.cfg.ImagesOnly {
		c.image, c.reason = &Image{}, "ErrImagePull"
		c.waiting = "the stand-in node knows no image but " + strings.Join(slices.Sorted(maps.Keys(k.cfg.Images)), ", ")
		close(c.done)
		return
	}
	k.running.Go(func() {
		c.run()
		k.reportOf(p.uid)
	})
}

// reportOf reports a pod that may be gone.
func (k *Kubelet) reportOf(uid types.UID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p := k.pods[uid]; p != nil {
		k.report(p)
	}
}

// forget ends a pod's containers.
func (k *Kubelet) forget(p *corev1.Pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if known := k.pods[p.UID]; known != nil {
		delete(k.pods, p.UID)
		for _, c := range known.containers {
			c.cancel()
		}
	}
}

// report tells the API server how a pod is, unless it knows. It is called with
// k.mu held.
func (k *Kubelet) report(p *pod) {
	status := p.status()
	if k.ctx.Err() != nil || reflect.DeepEqual(status, p.reported) {
		return
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": p.uid}, "status": status})
	if err == nil {
		ctx, cancel := context.WithTimeout(k.ctx, renewEvery)
		defer cancel()
		_, err = k.api.CoreV1().Pods(p.namespace).
			Patch(ctx, p.name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	}
	if apierrors.IsNotFound(err) {
		return // it was deleted meanwhile
	}
	if err != nil {
		k.complain("report", p.spec, err)
		return
	}
	p.reported = status
}

// status is Running and Ready, whatever became of single containers: a test
// starts what it wants to go on, and a debugger's may end. Those of known images
// are how they are.
func (p *pod) status() corev1.PodStatus {
	ready := corev1.ConditionTrue
	for _, c := range p.containers {
		if !c.isReady() {
			ready = corev1.ConditionFalse
		}
	}
	s := corev1.PodStatus{
		Phase: p.phase(), HostIP: "127.0.0.1", PodIP: "127.0.0.1", PodIPs: []corev1.PodIP{{IP: "127.0.0.1"}}, StartTime: &p.spec.CreationTimestamp,
		ObservedGeneration: p.spec.Generation,
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		status := ready
		if kind == corev1.PodInitialized {
			status = corev1.ConditionTrue
		}
		s.Conditions = append(s.Conditions, corev1.PodCondition{
			Type: kind, Status: status, LastTransitionTime: p.spec.CreationTimestamp,
		})
	}
	for _, c := range p.spec.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, p.containerStatus(c.Name, c.Image))
	}
	for _, c := range p.spec.Spec.EphemeralContainers {
		s.EphemeralContainerStatuses = append(s.EphemeralContainerStatuses, p.containerStatus(c.Name, c.Image))
	}
	return s
}

// phase is that of containers of known images, if there are any.
func (p *pod) phase() corev1.PodPhase {
	for _, c := range p.containers {
		if c.image == nil {
			continue
		}
		switch state := c.state(); {
		case state.Waiting != nil:
			return corev1.PodPending
		case state.Terminated == nil:
		case p.spec.Spec.RestartPolicy != corev1.RestartPolicyNever: // and not ready
		case state.Terminated.ExitCode == 0:
			return corev1.PodSucceeded
		default:
			return corev1.PodFailed
		}
	}
	return corev1.PodRunning
}

func (p *pod) containerStatus(name, image string) corev1.ContainerStatus {
	s := corev1.ContainerStatus{Name: name, Image: image, ContainerID: "stand-in://" + string(p.uid) + "/" + name}
	if c := p.containers[name]; c != nil {
		s.State = c.state()
	}
	running := s.State.Running != nil
	s.Ready, s.Started = running && p.containers[name].isReady(), &running
	return s
}

// find returns a container of a pod that runs here.
func (k *Kubelet) find(namespace, name, containerName string) (*container, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.pods {
		if p.namespace != namespace || p.name != name {
			continue
		}
		if c := p.containers[containerName]; c != nil {
			return c, nil
		}
	}
	return nil, fmt.Errorf("no container %s in the pod %s/%s runs here", containerName, namespace, name)
}

// complain says what a test will miss. The next change of the pod is another
// chance.
func (k *Kubelet) complain(what string, p *corev1.Pod, err error) {
	if k.ctx.Err() == nil {
		utilruntime.HandleError(fmt.Errorf("the stand-in kubelet could not %s the pod %s/%s: %w", what, p.Namespace, p.Name, err))
	}
}
