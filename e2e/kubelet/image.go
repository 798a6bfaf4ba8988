package kubelet

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/clientcmd"
)

// Image is what a container of one image runs. Such a container is more than a
// command: it has a root of its own, the pod's user, its environment and its
// volumes, it is ready when its readiness probe says so, and it gets SIGTERM. It is
// not started again.
type Image struct {
	// Entrypoint is the path of a static program. It is all that the image holds,
	// at /NAME.
	Entrypoint string
}

const (
	// retryEvery is how often a volume that is not there yet is looked for, and one
	// that is there for changes. A kubelet takes a minute.
	retryEvery = 300 * time.Millisecond
	// defaultGrace is how long a pod may take to end if it does not say.
	defaultGrace = 30 * time.Second
)

// runImage runs a container of a known image to its end.
func (k *Kubelet) runImage(c *container, p *corev1.Pod) {
	defer close(c.done)
	defer c.log.Close()
	defer c.cancel()
	t, err := k.prepare(c, p)
	if err == nil {
		c.mu.Lock()
		c.running, c.inside = true, task{dir: t.dir, env: t.env, attributes: t.attributes}
		c.mu.Unlock()
		ctx, cancel := context.WithCancel(c.ctx)
		k.running.Go(func() { k.tend(ctx, c, p) })
		k.reportOf(p.UID)
		err = t.run(c.ctx)
		cancel()
	}
	c.end(err)
	k.reportOf(p.UID)
}

// prepare makes a container's root and returns what runs in it. It waits for
// volumes that are not there yet, and says so as the reason why the container
// waits.
func (k *Kubelet) prepare(c *container, p *corev1.Pod) (task, error) {
	root := filepath.Join(c.dir, "root")
	entrypoint := "/" + filepath.Base(c.image.Entrypoint)
	if err := os.MkdirAll(root, 0o755); err != nil {
		return task{}, err
	}
	if err := copyProgram(c.image.Entrypoint, root+entrypoint); err != nil {
		return task{}, err
	}
	attributes, group, err := inRoot(root, p, &c.spec)
	if err != nil {
		return task{}, err
	}
	env, err := k.environment(&c.spec)
	if err != nil {
		return task{}, err
	}
	for {
		err := k.mountAll(c, p, root, group)
		if err == nil {
			break
		}
		c.mu.Lock()
		c.waiting = err.Error()
		c.mu.Unlock()
		k.reportOf(p.UID)
		select {
		case <-c.ctx.Done():
			return task{}, c.ctx.Err()
		case <-time.After(retryEvery):
		}
	}
	command := c.spec.Command
	if len(command) == 0 {
		command = []string{entrypoint}
	}
	grace := defaultGrace
	if s := p.Spec.TerminationGracePeriodSeconds; s != nil {
		grace = time.Duration(*s) * time.Second
	}
	return task{
		dir: "/", command: append(command[:len(command):len(command)], c.spec.Args...), env: env,
		attributes: attributes, grace: grace, out: &c.log, err: &c.log,
	}, nil
}

// environment is what a container has of its own, and where the API server is: the
// address that it has here in place of its Service's.
func (k *Kubelet) environment(spec *corev1.Container) ([]string, error) {
	config, err := clientcmd.BuildConfigFromFlags("", k.cfg.Kubeconfig)
	if err != nil {
		return nil, err
	}
	api, err := url.Parse(config.Host)
	if err != nil {
		return nil, err
	}
	env := []string{"KUBERNETES_SERVICE_HOST=" + api.Hostname(), "KUBERNETES_SERVICE_PORT=" + api.Port()}
	for _, v := range spec.Env {
		if v.ValueFrom != nil {
			return nil, fmt.Errorf("the stand-in kubelet knows no valueFrom, as %s has it", v.Name)
		}
		env = append(env, v.Name+"="+v.Value)
	}
	return env, nil
}

// mountAll writes each volume where the container has it.
func (k *Kubelet) mountAll(c *container, p *corev1.Pod, root string, group int) error {
	for _, mount := range c.spec.VolumeMounts {
		if err := k.mount(c.ctx, p, mount, root, group); err != nil {
			return fmt.Errorf("mount %s: %w", mount.Name, err)
		}
	}
	return nil
}

// tend keeps what changes outside of a running container up to date: its volumes,
// and whether it is ready.
func (k *Kubelet) tend(ctx context.Context, c *container, p *corev1.Pod) {
	_, group, err := inRoot("", p, &c.spec)
	for tick := time.NewTicker(retryEvery); err == nil; {
		if c.setReady(probe(ctx, &c.spec)) {
			k.reportOf(p.UID)
		}
		_ = k.mountAll(c, p, filepath.Join(c.dir, "root"), group) // the old content stays
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
	}
}

// copyProgram copies an executable file.
func copyProgram(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		target.Close()
		return err
	}
	return target.Close()
}

// Try runs an image's program with args as a pod would, in a root below dir, and
// returns why it cannot on this machine: a user who is not root needs user
// namespaces, which some machines deny. A program that ends with a code other than
// 0 fails, too.
func Try(ctx context.Context, dir string, image Image, args ...string) error {
	root, err := os.MkdirTemp(dir, "try-")
	if err != nil {
		return fmt.Errorf("try to run a pod: %w", err)
	}
	defer os.RemoveAll(root)
	if err := os.Chmod(root, 0o755); err != nil {
		return fmt.Errorf("try to run a pod: %w", err)
	}
	entrypoint := "/" + filepath.Base(image.Entrypoint)
	if err := copyProgram(image.Entrypoint, root+entrypoint); err != nil {
		return fmt.Errorf("try to run a pod: %w", err)
	}
	user := int64(65532) // of gatehouse's own image, as of any other that is not root
	p := &corev1.Pod{Spec: corev1.PodSpec{SecurityContext: &corev1.PodSecurityContext{RunAsUser: &user, RunAsGroup: &user}}}
	attributes, _, err := inRoot(root, p, &corev1.Container{})
	if err != nil {
		return fmt.Errorf("try to run a pod: %w", err)
	}
	t := task{dir: "/", command: append([]string{entrypoint}, args...), env: []string{}, attributes: attributes, grace: defaultGrace}
	if err := t.run(ctx); err != nil {
		return fmt.Errorf("try to run a pod: %w", err)
	}
	return nil
}
