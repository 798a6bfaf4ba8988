package migrate

import (
	"path"
	"strings"
)

// origin is a key of a Secret or ConfigMap: where a file comes from.
type origin struct{ kind, name, key string }

// mounts are the files that a container finds in its volumes.
type mounts struct {
	container *container
	pod       *podSpec
	objects   []*object
}

// origin returns where the file comes from, if a Secret or ConfigMap is mounted
// there. Of mounts in one another the innermost counts.
func (m *mounts) origin(file string) (origin, bool) {
	if m == nil {
		return origin{}, false
	}
	var found origin
	longest := -1
	for _, mount := range m.container.VolumeMounts {
		at := path.Clean(mount.MountPath)
		inside, ok := strings.CutPrefix(path.Clean(file), at)
		if !ok || inside != "" && inside[0] != '/' && at != "/" || len(at) <= longest {
			continue
		}
		found, longest = m.keyOf(mount.Name, path.Join(mount.SubPath, inside)), len(at)
	}
	return found, found.key != ""
}

// keyOf returns what a file in a volume comes from; without a key if it is neither
// a Secret nor a ConfigMap, or one in which there is no such file.
func (m *mounts) keyOf(volume, file string) origin {
	file = strings.TrimPrefix(file, "/")
	for _, v := range m.pod.Volumes {
		if v.Name != volume {
			continue
		}
		from, items := origin{kind: "Secret", name: v.Secret.SecretName}, v.Secret.Items
		if v.ConfigMap.Name != "" {
			from, items = origin{kind: "ConfigMap", name: v.ConfigMap.Name}, v.ConfigMap.Items
		}
		if from.name != "" && len(items) == 0 {
			from.key = file
		}
		for _, item := range items {
			if path.Clean(item.Path) == file {
				from.key = item.Key
			}
		}
		return from
	}
	return origin{}
}

// content returns the file, if what it comes from was read too.
func (m *mounts) content(file string) ([]byte, bool) {
	from, ok := m.origin(file)
	if !ok {
		return nil, false
	}
	content, ok := dataOf(m.objects, from.kind, from.name)[from.key]
	return []byte(content), ok && content != ""
}
