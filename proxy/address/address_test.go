package address_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/proxy/address"
)

func proxies(t *testing.T, entries ...string) address.Proxies {
	t.Helper()
	p, err := address.Parse(entries)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Promise: only a trusted proxy's word counts, and only as far back as trusted
// proxies stand in a row.
func TestCaller(t *testing.T) {
	t.Parallel()
	trusted := proxies(t, "10.0.0.0/8", "192.0.2.7", "2001:db8:1::/48", "fe80::/10")
	many := func(n int) string { return strings.Repeat("10.0.0.1,", n) + "10.0.0.2" }
	for _, tt := range []struct {
		name, remote string
		forwarded    []string
		want         string
	}{
		{"no header", "10.0.0.1:5", nil, "10.0.0.1"},
		{"peer is not trusted", "203.0.113.9:5", []string{"198.51.100.1"}, "203.0.113.9"},
		{"peer beside a trusted address", "192.0.2.8:5", []string{"198.51.100.1"}, "192.0.2.8"},
		{"one proxy", "10.0.0.1:5", []string{"198.51.100.1"}, "198.51.100.1"},
		{"one address is trusted", "192.0.2.7:5", []string{"198.51.100.1"}, "198.51.100.1"},
		{"two proxies", "10.0.0.1:5", []string{"198.51.100.1, 10.9.9.9"}, "198.51.100.1"},
		{"the caller wrote one before", "10.0.0.1:5", []string{"1.1.1.1, 198.51.100.1"}, "198.51.100.1"},
		{"the caller wrote a trusted one before", "10.0.0.1:5", []string{"1.1.1.1, 10.0.0.2, 198.51.100.1, 10.9.9.9"}, "198.51.100.1"},
		{"all are trusted", "10.0.0.1:5", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"several lines are one list", "10.0.0.1:5", []string{"1.1.1.1", "198.51.100.1", "10.0.0.2,10.0.0.3"}, "198.51.100.1"},
		{"an empty line ends it", "10.0.0.1:5", []string{"198.51.100.1", ""}, "10.0.0.1"},
		{"an empty entry ends it", "10.0.0.1:5", []string{"198.51.100.1,, 10.0.0.2"}, "10.0.0.2"},
		{"a comma at the end ends it", "10.0.0.1:5", []string{"198.51.100.1,"}, "10.0.0.1"},
		{"a word ends it", "10.0.0.1:5", []string{"198.51.100.1, unknown, 10.0.0.2"}, "10.0.0.2"},
		{"an obfuscated name ends it", "10.0.0.1:5", []string{"_hidden"}, "10.0.0.1"},
		{"Forwarded's form ends it", "10.0.0.1:5", []string{"for=198.51.100.1"}, "10.0.0.1"},
		{"tabs and blanks", "10.0.0.1:5", []string{"1.1.1.1,\t198.51.100.1 \t"}, "198.51.100.1"},
		{"other white space ends it", "10.0.0.1:5", []string{"198.51.100.1\u00a0"}, "10.0.0.1"},
		{"port", "10.0.0.1:5", []string{"198.51.100.1:8080"}, "198.51.100.1"},
		{"port that is none", "10.0.0.1:5", []string{"198.51.100.1:99999"}, "10.0.0.1"},
		{"port and no address", "10.0.0.1:5", []string{":80"}, "10.0.0.1"},
		{"IPv6", "[2001:db8:1::5]:5", []string{"2001:DB8:2:0::1"}, "2001:db8:2::1"},
		{"IPv6 in brackets", "10.0.0.1:5", []string{"[2001:db8:2::1]"}, "2001:db8:2::1"},
		{"IPv6 with port", "10.0.0.1:5", []string{"[2001:db8:2::1]:443"}, "2001:db8:2::1"},
		{"IPv4 in brackets", "10.0.0.1:5", []string{"[198.51.100.1]"}, "10.0.0.1"},
		{"half a bracket", "10.0.0.1:5", []string{"[2001:db8:2::1"}, "10.0.0.1"},
		{"zone", "10.0.0.1:5", []string{"fe80::1%eth0"}, "10.0.0.1"},
		{"zone and port", "10.0.0.1:5", []string{"[fe80::1%eth0]:80"}, "10.0.0.1"},
		{"zone of the connection", "[fe80::1%eth0]:5", []string{"198.51.100.1"}, "198.51.100.1"},
		{"zone of the connection alone", "[fe80::1%eth0]:5", nil, "fe80::1"},
		{"IPv4 as IPv6 is IPv4", "[::ffff:10.0.0.1]:5", []string{"::ffff:198.51.100.1, ::ffff:10.0.0.2"}, "198.51.100.1"},
		{"leading zeros", "10.0.0.1:5", []string{"198.051.100.001"}, "10.0.0.1"},
		{"a number", "10.0.0.1:5", []string{"3325256705"}, "10.0.0.1"},
		{"a range", "10.0.0.1:5", []string{"198.51.100.0/24"}, "10.0.0.1"},
		{"an entry without end", "10.0.0.1:5", []string{strings.Repeat("1", 1<<20)}, "10.0.0.1"},
		{"32 entries", "10.0.0.1:5", []string{"198.51.100.1," + many(30)}, "198.51.100.1"},
		{"33 entries", "10.0.0.1:5", []string{"198.51.100.1," + many(31)}, "10.0.0.1"},
		{"lines without end", "10.0.0.1:5", []string{"198.51.100.1", many(100000)}, "10.0.0.1"},
		{"no address of a connection", "pipe", []string{"198.51.100.1"}, ""},
	} {
		if got := trusted.Caller(tt.remote, tt.forwarded); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	var nobody address.Proxies
	if got := nobody.Caller("127.0.0.1:5", []string{"198.51.100.1"}); got != "127.0.0.1" {
		t.Errorf("without trusted proxies: %q, want that of the connection", got)
	}
}

// Promise: what is trusted is written in one plain way, and every fault is told
// at once.
func TestParse(t *testing.T) {
	t.Parallel()
	_, err := address.Parse([]string{
		"10.0.0.0/8", "10.0.0.1/8", "0.0.0.0/0", "::/0", "proxy.example", "fe80::1%eth0", "fe80::%eth0/64",
		"::ffff:10.0.0.1", "::ffff:10.0.0.0/104", "10.0.0.0/33", "10.0.0", "10.0.0.0/08", "[::1]", "10.0.0.1:80",
	})
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	for i, want := range []string{
		`"10.0.0.1/8" has bits behind its length: did you mean 10.0.0.0/8?`, `"0.0.0.0/0" trusts everybody`, `"::/0" trusts everybody`,
		`"proxy.example" is neither`, `"fe80::1%eth0" is neither`, `"fe80::%eth0/64" is neither`, `"::ffff:10.0.0.1" is IPv4 in the form`,
		`"::ffff:10.0.0.0/104" is`, `"10.0.0.0/33" is neither`, `"10.0.0" is neither`, `"10.0.0.0/08" is neither`, `"[::1]" is neither`, `"10.0.0.1:80" is neither`,
	} {
		if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
			t.Errorf("fault %d of %q, want %q", i, lines, want)
		}
	}
	if !proxies(t, "127.0.0.1").Trusts(netip.MustParseAddr("::ffff:127.0.0.1")) {
		t.Error("an address of IPv4 is not known in the form of IPv6")
	}
}

// No header makes Caller return what is no address, or one that the header does
// not hold unless the connection has it.
func FuzzCaller(f *testing.F) {
	f.Add("198.51.100.1, 10.0.0.1", "[::1]:80")
	f.Add("::ffff:1.2.3.4,", "")
	f.Add(" ,, fe80::1%e", "1.2.3.4:5")
	trusted, err := address.Parse([]string{"10.0.0.0/8"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		got := trusted.Caller("10.0.0.1:5", []string{first, second})
		if addr, err := netip.ParseAddr(got); err != nil || addr.String() != got || addr.Is4In6() || addr.Zone() != "" {
			t.Errorf("%q is no plain address", got)
		}
		if stranger := trusted.Caller("192.0.2.1:5", []string{first, second}); stranger != "192.0.2.1" {
			t.Errorf("a stranger is %q", stranger)
		}
	})
}
