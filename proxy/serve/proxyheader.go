package serve

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// The PROXY protocol, https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt.
const (
	signatureV1 = "PROXY "
	signatureV2 = "\r\n\r\n\x00\r\nQUIT\n"
	// maxV1 is the length of the longest header of version 1, its end included.
	maxV1 = 107
	// maxV2 is how much may follow the fixed part in version 2: addresses, and
	// fields that are skipped. The protocol has senders stay below it.
	maxV2 = 520
)

// errBadAnnouncement says that a connection begins with something else than a
// header of the PROXY protocol, or with one that is of no use here.
var errBadAnnouncement = errors.New("no header of the PROXY protocol for TCP")

// readProxyHeader reads a header, and not one byte more, so that what follows is
// read where it stands. It returns the source that the header names, or the zero
// value if the sender speaks for itself.
func readProxyHeader(r io.Reader) (netip.AddrPort, error) {
	// No header is shorter than 15 bytes.
	head := make([]byte, len(signatureV2), maxV1)
	if _, err := io.ReadFull(r, head); err != nil {
		return netip.AddrPort{}, err
	}
	switch {
	case string(head) == signatureV2:
		return readV2(r)
	case bytes.HasPrefix(head, []byte(signatureV1)):
		return readV1(r, head)
	default:
		return netip.AddrPort{}, errBadAnnouncement
	}
}

// readV1 reads the rest of a line that begins with head.
func readV1(r io.Reader, head []byte) (netip.AddrPort, error) {
	for !bytes.HasSuffix(head, []byte("\r\n")) {
		if len(head) == maxV1 {
			return netip.AddrPort{}, errBadAnnouncement
		}
		head = head[:len(head)+1]
		if _, err := io.ReadFull(r, head[len(head)-1:]); err != nil {
			return netip.AddrPort{}, err
		}
	}
	return parseV1(string(head[len(signatureV1) : len(head)-2]))
}

// parseV1 reads what stands between the signature and the end of the line.
func parseV1(line string) (netip.AddrPort, error) {
	fields := strings.Split(line, " ")
	family := fields[0]
	switch {
	case family == "UNKNOWN" && !strings.ContainsAny(line, "\r\n"):
		return netip.AddrPort{}, nil // what follows it is to be ignored
	case family != "TCP4" && family != "TCP6" || len(fields) != 5 || strings.IndexByte(line, '%') >= 0:
		return netip.AddrPort{}, errBadAnnouncement
	}
	var source netip.AddrPort
	for i := 1; i >= 0; i-- { // the destination has to be good too
		addr, err := netip.ParseAddr(fields[1+i])
		text := fields[3+i]
		port, portErr := strconv.ParseUint(text, 10, 16)
		if err != nil || portErr != nil || addr.Is4() != (family == "TCP4") || len(text) > 1 && text[0] == '0' {
			return netip.AddrPort{}, errBadAnnouncement
		}
		source = netip.AddrPortFrom(addr.Unmap(), uint16(port))
	}
	return source, nil
}

// Bytes of version 2.
const (
	v2Local, v2Proxy         = 0x20, 0x21
	v2Unspec, v2TCP4, v2TCP6 = 0x00, 0x11, 0x21
)

// readV2 reads what follows the signature.
func readV2(r io.Reader) (netip.AddrPort, error) {
	var fixed [4]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return netip.AddrPort{}, err
	}
	command, family, length := fixed[0], fixed[1], int(binary.BigEndian.Uint16(fixed[2:]))
	size := 0 // of an address
	bad := length > maxV2
	switch {
	case command == v2Local, command == v2Proxy && family == v2Unspec:
	case command == v2Proxy && family == v2TCP4:
		size = 4
	case command == v2Proxy && family == v2TCP6:
		size = 16
	default:
		bad = true
	}
	if bad || size > 0 && length < 2*size+4 {
		return netip.AddrPort{}, errBadAnnouncement
	}
	rest := make([]byte, length)
	if _, err := io.ReadFull(r, rest); err != nil || size == 0 {
		return netip.AddrPort{}, err
	}
	addr, _ := netip.AddrFromSlice(rest[:size]) // of a length that fits
	return netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(rest[2*size:])), nil
}
