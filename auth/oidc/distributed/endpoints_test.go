package distributed_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth/oidc/distributed"
)

func endpoints(t testing.TB, prefixes ...string) distributed.Endpoints {
	t.Helper()
	list, err := distributed.ParseEndpoints(prefixes)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// hostile are endpoints that are not below https://allowed.example.com/groups, or
// that somebody could read so, or not so.
var hostile = []string{
	"", "x", "/groups", "//allowed.example.com/groups",
	"http://allowed.example.com/groups", "HTTPS://allowed.example.com/groups", "https:allowed.example.com/groups",
	"https:///groups", "https:/allowed.example.com/groups", " https://allowed.example.com/groups", "https://allowed.example.com/groups ",
	"https://other.example.com/groups", "https://allowed.example.com.evil/groups", "https://allowed.example.com.evil.example/groups",
	"https://evil-allowed.example.com/groups", "https://allowed.example.com./groups", "https://allowed.example/groups",
	"https://user@allowed.example.com/groups", "https://user:pass@allowed.example.com/groups", "https://@allowed.example.com/groups",
	"https://allowed.example.com@evil.example/groups", "https://allowed.example.com:x@evil.example/groups",
	"https://evil.example#@allowed.example.com/groups", "https://evil.example?@allowed.example.com/groups", "https://evil.example\\@allowed.example.com/groups",
	"https://allowed.example.com:8443/groups", "https://allowed.example.com:80/groups", "https://allowed.example.com:0443/groups", "https://allowed.example.com:/groups",
	"https://allowed.example.com:443:443/groups", "https://allowed.example.com%2eevil/groups", "https://allowed.example.com%00.evil/groups",
	"https://all\u006fwed.example.com\u3002evil/groups", "https://\uff41llowed.example.com/groups", "https://allowed.example.com\t/groups", "https://allowed.example.com\r\nHost: evil/groups",
	"https://allowed.example.com", "https://allowed.example.com/", "https://allowed.example.com/group", "https://allowed.example.com/groupsX",
	"https://allowed.example.com/Groups", "https://allowed.example.com/groups-of-others", "https://allowed.example.com/x/groups",
	"https://allowed.example.com/groups/../admin", "https://allowed.example.com/groups/..", "https://allowed.example.com/groups/.", "https://allowed.example.com/groups/./x",
	"https://allowed.example.com/groups/%2e%2e/admin", "https://allowed.example.com/groups/%2E%2E%2Fadmin", "https://allowed.example.com/groups%2f..%2fadmin",
	"https://allowed.example.com/groups/%252e%252e/admin", "https://allowed.example.com/groups/..%5cadmin", "https://allowed.example.com/groups\\..\\admin",
	"https://allowed.example.com/groups/..;/admin", "https://allowed.example.com/groups;x", "https://allowed.example.com//groups", "https://allowed.example.com/groups//x",
	"https://allowed.example.com/groups?redirect=https://evil.example", "https://allowed.example.com/groups?", "https://allowed.example.com/groups#", "https://allowed.example.com/groups#x",
	"https://allowed.example.com/groups/\x00", "https://allowed.example.com/groups/\xff", "https://allowed.example.com/groups/é",
	"https://[::1]/groups", "https://127.0.0.1/groups", "https://169.254.169.254/groups", "https://allowed.example.com/groups/" + strings.Repeat("x", 4096),
}

// Promise: an endpoint is allowed only on an origin of the list, at or below its
// path, at the boundary of a segment, and only in one spelling.
func TestEndpoints(t *testing.T) {
	list := endpoints(t, "https://allowed.example.com/groups")
	for _, raw := range hostile {
		if list.Allow(raw) == nil {
			t.Errorf("allowed: %q", raw)
		}
	}
	for _, tt := range []struct {
		prefix, raw string
		want        bool
	}{
		{"https://a.example/groups", "https://a.example/groups", true},
		{"https://a.example/groups", "https://a.example/groups/7", true},
		{"https://a.example/groups", "https://a.example/groups/", true},
		{"https://a.example/groups", "https://A.Example:443/groups/ana@b.c", true},
		{"https://A.example:443/groups", "https://a.example/groups", true},
		{"https://a.example:8443", "https://a.example:8443/any/path", true},
		{"https://a.example:8443", "https://a.example/any/path", false},
		{"https://a.example", "https://a.example", true},
		{"https://a.example/", "https://a.example/x", true},
		{"https://a.example/groups/", "https://a.example/groups/7", true},
		{"https://a.example/groups/", "https://a.example/groups", false},
		{"https://a.example/groups/", "https://a.example/groupsX", false},
		{"https://[::1]:8443/groups", "https://[::1]:8443/groups/7", true},
		{"https://a.example/a..b", "https://a.example/a..b/...", true},
	} {
		if got := endpoints(t, "https://other.example", tt.prefix).Allow(tt.raw) == nil; got != tt.want {
			t.Errorf("%q below %q: %t, want %t", tt.raw, tt.prefix, got, tt.want)
		}
	}
	if !endpoints(t).Empty() || endpoints(t).Allow("https://a.example") == nil {
		t.Error("an empty list allows somebody")
	}
}

// Promise: an entry of the list that could not be matched plainly is an error,
// and each is named.
func TestBadEndpointList(t *testing.T) {
	for _, raw := range []string{"", "http://a.example", "a.example", "https://", "https://u@a.example", "https://a.example/..", "https://a.example/x?y", "https://a.example/%61", "https://a.example:"} {
		_, err := distributed.ParseEndpoints([]string{"https://good.example", raw, "ftp://also.bad"})
		if err == nil || !strings.Contains(err.Error(), raw) || !strings.Contains(err.Error(), "ftp://also.bad") {
			t.Errorf("%q: error %v", raw, err)
		}
	}
}

// Promise: whatever is allowed is, to net/url too, a URL on the allowed origin and
// below the allowed path, with nothing left to interpret.
func FuzzEndpoint(f *testing.F) {
	for _, raw := range hostile {
		f.Add(raw)
	}
	f.Add("https://allowed.example.com/groups/7")
	f.Fuzz(func(t *testing.T, raw string) {
		if endpoints(t, "https://allowed.example.com/groups").Allow(raw) != nil {
			return
		}
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatalf("%q is allowed and no URL", raw)
		}
		clean := u.JoinPath().EscapedPath()
		if u.Scheme != "https" || !strings.EqualFold(strings.TrimSuffix(u.Host, ":443"), "allowed.example.com") || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
			clean != u.EscapedPath() || clean != "/groups" && !strings.HasPrefix(clean, "/groups/") {
			t.Errorf("%q is allowed: %+v, cleaned %q", raw, u, clean)
		}
	})
}
