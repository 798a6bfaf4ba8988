// Package address answers: where does a request come from?
//
// A caller may write any address into a header. So the address of the connection
// counts, and what a header says of others counts only as far as proxies that the
// operator trusts have written it.
package address

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

const (
	// maxHops is how many entries of X-Forwarded-For are read, so that a list
	// without end costs nothing.
	maxHops = 32
	// maxEntry is the length of the longest entry there can be: an address of
	// IPv6 in brackets, with a port, and room.
	maxEntry = 64
)

// Proxies are the addresses of proxies whose word on their callers counts. The
// zero value trusts nobody.
type Proxies struct{ list []netip.Prefix }

// Parse reads addresses and ranges such as 10.0.0.0/8. The error joins what is
// wrong with each of them.
func Parse(entries []string) (Proxies, error) {
	list := make([]netip.Prefix, len(entries))
	var faults error
	for i, entry := range entries {
		var err error
		list[i], err = parsePrefix(entry)
		faults = errors.Join(faults, err)
	}
	if faults != nil {
		return Proxies{}, faults
	}
	return Proxies{list}, nil
}

func parsePrefix(entry string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(entry)
	if addr, addrErr := netip.ParseAddr(entry); addrErr == nil && strings.IndexByte(entry, '%') < 0 {
		prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	fault := ""
	switch {
	case err != nil:
		fault = "is neither an address like 10.0.0.1 nor a range like 10.0.0.0/8"
	case prefix.Addr().Is4In6():
		fault = "is IPv4 in the form of IPv6: write it as IPv4"
	case prefix.Bits() == 0:
		fault = "trusts everybody, so that anybody could write any address"
	case prefix != prefix.Masked():
		fault = "has bits behind its length: did you mean " + prefix.Masked().String() + "?"
	default:
		return prefix, nil
	}
	return prefix, fmt.Errorf("%q %s", entry, fault)
}

// Trusts reports whether the word of the proxy at addr counts.
func (p Proxies) Trusts(addr netip.Addr) bool {
	addr = plain(addr)
	for _, prefix := range p.list {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// Caller returns the address of whoever made a request, without port: that of
// the connection, remote, or, if a trusted proxy is there, the last one in the
// lines of X-Forwarded-For that is not a trusted proxy's own. Where an entry
// cannot be read, what stands before it cannot be trusted: the last that could be
// read counts. It returns "" if remote is no address.
func (p Proxies) Caller(remote string, forwarded []string) string {
	caller, ok := parseHostPort(remote)
	if !ok {
		return ""
	}
	hops := 0
	for line := len(forwarded) - 1; line >= 0; line-- {
		for rest, more := forwarded[line], true; more; hops++ {
			if hops == maxHops || !p.Trusts(caller) {
				return caller.String()
			}
			var entry string
			rest, entry, more = cutLast(rest)
			next, ok := parseEntry(entry)
			if !ok {
				return caller.String()
			}
			caller = next
		}
	}
	return caller.String()
}

// cutLast takes the last entry from a list. more says that others stand before.
func cutLast(list string) (rest, entry string, more bool) {
	if comma := strings.LastIndexByte(list, ','); comma >= 0 {
		return list[:comma], list[comma+1:], true
	}
	return "", list, false
}

// parseEntry reads an address as proxies write it: with or without port, and with
// or without brackets if it is of IPv6. A zone means something to the proxy alone.
func parseEntry(entry string) (netip.Addr, bool) {
	entry = strings.Trim(entry, " \t")
	if len(entry) > maxEntry {
		return netip.Addr{}, false
	}
	if strings.IndexByte(entry, '%') >= 0 {
		return netip.Addr{}, false
	}
	if addr, err := netip.ParseAddr(entry); err == nil {
		return plain(addr), true
	}
	if strings.HasSuffix(entry, "]") {
		entry += ":0"
	}
	return parseHostPort(entry)
}

// parseHostPort reads an address with its port. Brackets are for IPv6 alone.
func parseHostPort(hostPort string) (netip.Addr, bool) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(host)
	_, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || addr.Is4() == (hostPort[0] == '[') {
		return netip.Addr{}, false
	}
	return plain(addr), true
}

// plain returns addr in the one form in which addresses are compared and shown:
// IPv4 as IPv4, and no zone, which no log elsewhere could use.
func plain(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

// Network returns what one client can be expected to have, of the address that
// [Proxies.Caller] gives: an address of IPv4, or a /64 of IPv6. All who have no
// address share one.
func Network(client string) netip.Addr {
	addr, err := netip.ParseAddr(client)
	if err != nil {
		return netip.Addr{}
	}
	if addr = plain(addr); addr.Is4() {
		return addr
	}
	return netip.PrefixFrom(addr, 64).Masked().Addr()
}
