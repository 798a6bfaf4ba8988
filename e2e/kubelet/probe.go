package kubelet

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// probe reports whether a container's readiness probe succeeds, or true if it has
// none. It is an HTTP GET, to a port of this machine, which is that of any pod here.
func probe(ctx context.Context, spec *corev1.Container) bool {
	if spec.ReadinessProbe == nil {
		return true
	}
	get := spec.ReadinessProbe.HTTPGet
	if get == nil {
		return false // the stand-in knows no other
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(max(1, spec.ReadinessProbe.TimeoutSeconds))*time.Second)
	defer cancel()
	url := fmt.Sprintf("http://%s%s", net.JoinHostPort("127.0.0.1", strconv.Itoa(portOf(spec, get.Port))), get.Path)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode >= 200 && resp.StatusCode < 400
}

// portOf returns the number of a port that may be named.
func portOf(spec *corev1.Container, port intstr.IntOrString) int {
	for _, p := range spec.Ports {
		if port.Type == intstr.String && p.Name == port.StrVal {
			return int(p.ContainerPort)
		}
	}
	return port.IntValue()
}
