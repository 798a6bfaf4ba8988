package proc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// The ports to draw from lie below those that the kernel hands to outgoing
// connections, so that a port stays free while its server is restarted.
const (
	firstPort = 18000
	lastPort  = 32000
)

// Ports returns n different loopback ports that were free a moment ago. A
// caller must still be ready to try again: nothing reserves them.
func Ports(n int) ([]int, error) {
	ports := make([]int, 0, n)
	for tries := 0; len(ports) < n; tries++ {
		if tries > 200*n {
			return nil, errors.New("find free loopback ports: none left to try")
		}
		port := firstPort + rand.IntN(lastPort-firstPort)
		l, err := net.Listen("tcp", Loopback(port))
		if err != nil {
			continue
		}
		defer l.Close() // held until all are found, so that no two are alike
		ports = append(ports, port)
	}
	return ports, nil
}

// PortNear returns preferred if it is free on the loopback address, else any
// free port.
func PortNear(preferred int) (int, error) {
	if l, err := net.Listen("tcp", Loopback(preferred)); err == nil {
		return preferred, l.Close()
	}
	ports, err := Ports(1)
	if err != nil {
		return 0, fmt.Errorf("port %d is taken: %w", preferred, err)
	}
	return ports[0], nil
}

// Loopback returns the address of a port on the IPv4 loopback.
func Loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
