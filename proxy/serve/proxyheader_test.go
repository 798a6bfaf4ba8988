package serve

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

// v2 writes a header of version 2.
func v2(command, family byte, content ...[]byte) string {
	body := bytes.Join(content, nil)
	head := append([]byte(signatureV2), command, family)
	return string(append(binary.BigEndian.AppendUint16(head, uint16(len(body))), body...))
}

// ends writes the addresses of a header of version 2.
func ends(source, destination string) []byte {
	from, to := netip.MustParseAddrPort(source), netip.MustParseAddrPort(destination)
	content := append(from.Addr().AsSlice(), to.Addr().AsSlice()...)
	content = binary.BigEndian.AppendUint16(content, from.Port())
	return binary.BigEndian.AppendUint16(content, to.Port())
}

var (
	v4Ends = ends("198.51.100.1:4711", "10.0.0.1:443")
	v6Ends = ends("[2001:db8::1]:4711", "[2001:db8::2]:443")
)

// Promise: a header is read to its last byte and no further, in whatever pieces
// it comes; its source is the caller, unless the sender speaks for itself.
func TestProxyHeader(t *testing.T) {
	t.Parallel()
	const rest = "\x16\x03\x01 what follows\r\n"
	for name, tt := range map[string]struct{ header, want string }{
		"v1 IPv4":                  {"PROXY TCP4 198.51.100.1 10.0.0.1 4711 443\r\n", "198.51.100.1:4711"},
		"v1 the shortest IPv4":     {"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n", "1.1.1.1:1"},
		"v1 IPv6":                  {"PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\n", "[2001:db8::1]:4711"},
		"v1 the longest IPv6":      {"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:65535"},
		"v1 IPv4 as IPv6":          {"PROXY TCP6 ::ffff:198.51.100.1 ::1 4711 443\r\n", "198.51.100.1:4711"},
		"v1 unknown":               {"PROXY UNKNOWN\r\n", ""},
		"v1 unknown with the rest": {"PROXY UNKNOWN ffff::1 whatever 65535 65535\r\n", ""},
		"v2 IPv4":                  {v2(v2Proxy, v2TCP4, v4Ends), "198.51.100.1:4711"},
		"v2 IPv6":                  {v2(v2Proxy, v2TCP6, v6Ends), "[2001:db8::1]:4711"},
		"v2 IPv4 as IPv6":          {v2(v2Proxy, v2TCP6, ends("[::ffff:198.51.100.1]:4711", "[::1]:443")), "198.51.100.1:4711"},
		"v2 with more fields":      {v2(v2Proxy, v2TCP4, v4Ends, []byte("\x03\x00\x04\x01\x02\x03\x04\x20\x00\x01x")), "198.51.100.1:4711"},
		"v2 of the greatest size":  {v2(v2Proxy, v2TCP4, v4Ends, make([]byte, maxV2-12)), "198.51.100.1:4711"},
		"v2 local":                 {v2(v2Local, v2Unspec), ""},
		"v2 local with addresses":  {v2(v2Local, v2TCP4, v4Ends), ""},
		"v2 unspecified":           {v2(v2Proxy, v2Unspec, []byte("fields")), ""},
	} {
		for pieces, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "halves": iotest.HalfReader,
		} {
			r := wrap(strings.NewReader(tt.header + rest))
			source, err := readProxyHeader(r)
			got := ""
			if source.IsValid() {
				got = source.String()
			}
			if err != nil || got != tt.want {
				t.Errorf("%s in %s: %q, %v, want %q", name, pieces, got, err, tt.want)
			}
			if left, err := io.ReadAll(r); string(left) != rest || err != nil {
				t.Errorf("%s in %s: left %q, %v", name, pieces, left, err)
			}
		}
	}
}

// Promise: what is no header in its exact form is refused, and never read beyond
// the bound.
func TestBadProxyHeader(t *testing.T) {
	t.Parallel()
	for name, header := range map[string]string{
		"TLS":                       "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and so on",
		"HTTP":                      "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"small letters":             "proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
		"a blank before":            " PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
		"two blanks":                "PROXY TCP4  1.1.1.1 1.1.1.1 1 1\r\n",
		"a tab":                     "PROXY TCP4\t1.1.1.1 1.1.1.1 1 1\r\n",
		"a blank at the end":        "PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n",
		"no destination":            "PROXY TCP4 1.1.1.1 1 1\r\n",
		"UDP":                       "PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n",
		"the other family":          "PROXY TCP4 ::1 ::1 1 1\r\n",
		"the other family, v6":      "PROXY TCP6 1.1.1.1 1.1.1.1 1 1\r\n",
		"a bad destination":         "PROXY TCP4 1.1.1.1 1.1.1 1 1\r\n",
		"a zone":                    "PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n",
		"leading zeros":             "PROXY TCP4 1.1.1.01 1.1.1.1 1 1\r\n",
		"a port too large":          "PROXY TCP4 1.1.1.1 1.1.1.1 65536 1\r\n",
		"a port with zeros":         "PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n",
		"a port with a sign":        "PROXY TCP4 1.1.1.1 1.1.1.1 1 +1\r\n",
		"a line within":             "PROXY TCP4 1.1.1.1\n1.1.1.1 1 1\r\n",
		"a carriage return within":  "PROXY UNKNOWN a\rb\r\n",
		"a line that ends at once":  "PROXY \r\nabcdefghijk\r\n",
		"a line without end":        "PROXY UNKNOWN " + strings.Repeat("x", 200) + "\r\n",
		"one byte too long":         "PROXY UNKNOWN " + strings.Repeat("x", maxV1-len("PROXY UNKNOWN \r\n")+1) + "\r\n",
		"unknown of another length": "PROXY UNKNOWNX\r\n",
		"v2 of another version":     v2(0x11, v2TCP4, v4Ends),
		"v2 with another command":   v2(0x22, v2TCP4, v4Ends),
		"v2 UDP":                    v2(v2Proxy, 0x12, v4Ends),
		"v2 Unix":                   v2(v2Proxy, 0x31, make([]byte, 216)),
		"v2 too short":              v2(v2Proxy, v2TCP4, v4Ends[:11]),
		"v2 IPv4 for IPv6":          v2(v2Proxy, v2TCP6, v4Ends),
		"v2 too long":               v2(v2Proxy, v2TCP4, v4Ends, make([]byte, maxV2)),
		"v2 local and too long":     v2(v2Local, v2Unspec, make([]byte, maxV2+1)),
	} {
		r := strings.NewReader(header)
		if source, err := readProxyHeader(r); !errors.Is(err, errBadAnnouncement) || source.IsValid() {
			t.Errorf("%s: %v, %v", name, source, err)
		}
		if read := len(header) - r.Len(); read > len(signatureV2)+4+maxV2 {
			t.Errorf("%s: %d bytes were read", name, read)
		}
	}
	for _, header := range []string{"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n", v2(v2Proxy, v2TCP4, v4Ends)} {
		for cut := range len(header) {
			if source, err := readProxyHeader(strings.NewReader(header[:cut])); err == nil || source.IsValid() {
				t.Errorf("%q, cut: %v, %v", header[:cut], source, err)
			}
		}
	}
}

// Whatever comes, the parser ends, reads no more than the longest header, and
// returns a source only for a header that says the same when it is written anew.
func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 198.51.100.1 10.0.0.1 4711 443\r\n"))
	f.Add([]byte("PROXY UNKNOWN\r\nx"))
	f.Add([]byte(v2(v2Proxy, v2TCP4, v4Ends)))
	f.Add([]byte(v2(v2Proxy, v2TCP6, v6Ends, []byte("\x20\x00\x01x"))))
	f.Fuzz(func(t *testing.T, content []byte) {
		r := bytes.NewReader(content)
		source, err := readProxyHeader(r)
		if read := len(content) - r.Len(); read > len(signatureV2)+4+maxV2 {
			t.Errorf("%d bytes were read", read)
		}
		if err != nil || !source.IsValid() {
			return
		}
		family, other := "TCP4", "1.1.1.1"
		if source.Addr().Is6() {
			family, other = "TCP6", "::1"
		}
		anew := fmt.Sprintf("PROXY %s %s %s %d 1\r\n", family, source.Addr(), other, source.Port())
		if again, err := readProxyHeader(strings.NewReader(anew)); err != nil || again != source {
			t.Errorf("%s is read as %s, %v", source, again, err)
		}
	})
}
