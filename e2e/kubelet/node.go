package kubelet

import (
	"context"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// As kubelets do.
const (
	leaseNamespace = "kube-node-lease"
	leaseSeconds   = int32(40)
	renewEvery     = 10 * time.Second
)

// register makes the Node: Ready, reached on the loopback address at port. That
// it declares no features has the API server translate WebSocket into SPDY for
// it, as for most kubelets that there are.
func (k *Kubelet) register(ctx context.Context, port int) error {
	now := metav1.Now()
	room := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("16Gi"),
		corev1.ResourcePods: resource.MustParse("110"),
	}
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: k.cfg.Name, Labels: map[string]string{corev1.LabelHostname: k.cfg.Name}},
		Status: corev1.NodeStatus{
			Capacity: room, Allocatable: room,
			Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}},
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: int32(port)}},
			NodeInfo:        corev1.NodeSystemInfo{KubeletVersion: "stand-in", OperatingSystem: "linux"},
			Conditions: []corev1.NodeCondition{{
				Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "StandIn",
				LastHeartbeatTime: now, LastTransitionTime: now,
			}},
		},
	}
	_, err := k.api.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	return err
}

// renew keeps the node's lease, by which a cluster knows that it lives.
func (k *Kubelet) renew() {
	leases := k.api.CoordinationV1().Leases(leaseNamespace)
	for tick := time.NewTicker(renewEvery); ; {
		now, seconds := metav1.NowMicro(), leaseSeconds
		spec := coordinationv1.LeaseSpec{HolderIdentity: &k.cfg.Name, LeaseDurationSeconds: &seconds, RenewTime: &now}
		lease, err := leases.Get(k.ctx, k.cfg.Name, metav1.GetOptions{})
		if err == nil {
			lease.Spec = spec
			_, err = leases.Update(k.ctx, lease, metav1.UpdateOptions{})
		} else {
			lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: k.cfg.Name}, Spec: spec}
			_, err = leases.Create(k.ctx, lease, metav1.CreateOptions{})
		}
		// One that failed is made up for by the next: a lease lasts four times as long.
		_ = err
		select {
		case <-tick.C:
		case <-k.ctx.Done():
			tick.Stop()
			return
		}
	}
}
