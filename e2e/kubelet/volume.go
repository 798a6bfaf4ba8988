package kubelet

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// mount writes a volume's present content into a container's root, unless it is
// there already. A token is asked for once.
func (k *Kubelet) mount(ctx context.Context, p *corev1.Pod, mount corev1.VolumeMount, root string, group int) error {
	i := slices.IndexFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == mount.Name })
	if i < 0 || mount.SubPath != "" || mount.SubPathExpr != "" {
		return fmt.Errorf("the stand-in kubelet does not know such a mount")
	}
	dir := filepath.Join(root, filepath.Clean("/"+mount.MountPath))
	source := p.Spec.Volumes[i].VolumeSource
	var (
		content map[string][]byte
		mode    *int32
		err     error
	)
	switch {
	case source.Secret != nil:
		mode = source.Secret.DefaultMode
		content, err = k.secret(ctx, p.Namespace, source.Secret.SecretName, source.Secret.Items)
	case source.ConfigMap != nil:
		mode = source.ConfigMap.DefaultMode
		content, err = k.configMap(ctx, p.Namespace, source.ConfigMap.Name, source.ConfigMap.Items)
	case source.Projected != nil:
		mode = source.Projected.DefaultMode
		if _, err := os.Stat(filepath.Join(dir, dataLink)); err == nil {
			return nil
		}
		content, err = k.projected(ctx, p, source.Projected.Sources)
	default:
		return fmt.Errorf("the stand-in kubelet does not know this kind of volume")
	}
	if err != nil {
		return err
	}
	return publish(dir, content, mode, group)
}

func (k *Kubelet) secret(ctx context.Context, namespace, name string, items []corev1.KeyToPath) (map[string][]byte, error) {
	secret, err := k.api.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return choose(secret.Data, items)
}

func (k *Kubelet) configMap(ctx context.Context, namespace, name string, items []corev1.KeyToPath) (map[string][]byte, error) {
	object, err := k.api.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	data := maps.Clone(object.BinaryData)
	if data == nil {
		data = map[string][]byte{}
	}
	for key, value := range object.Data {
		data[key] = []byte(value)
	}
	return choose(data, items)
}

// projected puts several sources into one volume.
func (k *Kubelet) projected(ctx context.Context, p *corev1.Pod, sources []corev1.VolumeProjection) (map[string][]byte, error) {
	all := map[string][]byte{}
	for _, s := range sources {
		var (
			content map[string][]byte
			err     error
		)
		switch {
		case s.ServiceAccountToken != nil:
			content, err = k.token(ctx, p, s.ServiceAccountToken)
		case s.ConfigMap != nil:
			content, err = k.configMap(ctx, p.Namespace, s.ConfigMap.Name, s.ConfigMap.Items)
		case s.Secret != nil:
			content, err = k.secret(ctx, p.Namespace, s.Secret.Name, s.Secret.Items)
		default:
			err = fmt.Errorf("the stand-in kubelet does not know this kind of projection")
		}
		if err != nil {
			return nil, err
		}
		maps.Copy(all, content)
	}
	return all, nil
}

// token asks for a token that is bound to the pod, as the node.
func (k *Kubelet) token(ctx context.Context, p *corev1.Pod, want *corev1.ServiceAccountTokenProjection) (map[string][]byte, error) {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: want.ExpirationSeconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: p.Name, UID: p.UID},
	}}
	if want.Audience != "" {
		request.Spec.Audiences = []string{want.Audience}
	}
	answer, err := k.api.CoreV1().ServiceAccounts(p.Namespace).
		CreateToken(ctx, p.Spec.ServiceAccountName, request, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	return map[string][]byte{want.Path: []byte(answer.Status.Token)}, nil
}

// choose returns what items name, or all.
func choose(data map[string][]byte, items []corev1.KeyToPath) (map[string][]byte, error) {
	if len(items) == 0 {
		return data, nil
	}
	chosen := map[string][]byte{}
	for _, item := range items {
		value, ok := data[item.Key]
		if !ok {
			return nil, fmt.Errorf("it has no key %s", item.Key)
		}
		chosen[item.Path] = value
	}
	return chosen, nil
}

// dataLink leads to the present content of a volume, as in a kubelet's: each file is
// a link through it, so that all change in one step.
const dataLink = "..data"

// publish makes content, file by file, that of the folder dir. A group other than 0
// gets the files.
func publish(dir string, content map[string][]byte, mode *int32, group int) error {
	if same(dir, content) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	version, err := os.MkdirTemp(dir, "..v")
	if err != nil {
		return err
	}
	if err := os.Chmod(version, 0o755); err != nil {
		return err
	}
	for name, b := range content {
		path := filepath.Join(version, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			return err
		}
		if mode != nil {
			if err := os.Chmod(path, os.FileMode(*mode)); err != nil {
				return err
			}
		}
		if group != 0 {
			if err := os.Chown(path, -1, group); err != nil {
				return err
			}
		}
	}
	next := filepath.Join(dir, dataLink+"_next")
	if err := os.Symlink(filepath.Base(version), next); err != nil {
		return err
	}
	if err := os.Rename(next, filepath.Join(dir, dataLink)); err != nil {
		return err
	}
	for name := range content {
		err := os.Symlink(filepath.Join(dataLink, name), filepath.Join(dir, name))
		if err != nil && !os.IsExist(err) {
			return err
		}
	}
	return nil
}

// same reports whether dir holds content already.
func same(dir string, content map[string][]byte) bool {
	for name, b := range content {
		present, err := os.ReadFile(filepath.Join(dir, dataLink, name))
		if err != nil || string(present) != string(b) {
			return false
		}
	}
	_, err := os.Stat(filepath.Join(dir, dataLink))
	return err == nil
}
