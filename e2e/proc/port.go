package proc

import (
	"errors"
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
func Ports(n int) ([]int, error) { return PortsNear(make([]int, n)...) }

// PortsNear returns as many different loopback ports that were free a moment ago:
// each preferred one that is free, and any other for one that is taken or zero.
func PortsNear(preferred ...int) ([]int, error) {
	ports := make([]int, 0, len(preferred))
	for _, port := range preferred {
		l, err := listenNear(port)
		if err != nil {
			return nil, err
		}
		defer l.Close() // held until all are found, so that no two are alike
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// listenNear listens on port if it is free, else on any.
func listenNear(port int) (net.Listener, error) {
	if port != 0 {
		if l, err := net.Listen("tcp", Loopback(port)); err == nil {
			return l, nil
		}
	}
	for range 200 {
		if l, err := net.Listen("tcp", Loopback(firstPort+rand.IntN(lastPort-firstPort))); err == nil {
			return l, nil
		}
	}
	return nil, errors.New("find free loopback ports: none left to try")
}

// Loopback returns the address of a port on the IPv4 loopback.
func Loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
