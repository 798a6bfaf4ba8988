package kubelet

import (
	"errors"
	"os"
	"syscall"

	corev1 "k8s.io/api/core/v1"

	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

// inRoot has a process run in a root of its own as the pod's user, and returns the
// group that the files of its volumes get, or 0. Without root it is that user by
// name alone, in a user namespace.
func inRoot(root string, p *corev1.Pod, spec *corev1.Container) (*syscall.SysProcAttr, int, error) {
	var user, group, files int64
	if s := p.Spec.SecurityContext; s != nil {
		user, group, files = orZero(s.RunAsUser), orZero(s.RunAsGroup), orZero(s.FSGroup)
	}
	if s := spec.SecurityContext; s != nil && s.RunAsUser != nil {
		user = *s.RunAsUser
	}
	if user == 0 {
		return nil, 0, errors.New("the stand-in kubelet runs no image as root")
	}
	attributes := proc.Attributes()
	attributes.Chroot = root
	attributes.Credential = &syscall.Credential{Uid: uint32(user), Gid: uint32(group), Groups: []uint32{uint32(files)}}
	if os.Getuid() == 0 {
		return attributes, int(files), nil
	}
	attributes.Credential.Groups, attributes.Credential.NoSetGroups = nil, true
	attributes.Cloneflags = syscall.CLONE_NEWUSER
	attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: int(user), HostID: os.Getuid(), Size: 1}}
	attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: int(group), HostID: os.Getgid(), Size: 1}}
	return attributes, 0, nil
}

func orZero(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}
