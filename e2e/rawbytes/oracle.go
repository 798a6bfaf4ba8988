package rawbytes

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Secrets are the strings that may never be seen outside the credential's own
// place. It is safe for concurrent use.
type Secrets struct {
	mu   sync.Mutex
	list []string
}

// Add takes each secret, and the form that a WebSocket protocol gives it.
func (s *Secrets) Add(secrets ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range secrets {
		s.list = append(s.list, x, base64.RawURLEncoding.EncodeToString([]byte(x)))
	}
}

// Leaks names the place once for each secret that occurs in the text.
func (s *Secrets) Leaks(place, text string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, x := range s.list {
		if at := strings.Index(text, x); at >= 0 {
			from := max(0, strings.LastIndexByte(text[:at], '\n'))
			out = append(out, fmt.Sprintf("O4: secret in %s: %.300q", place, text[from:min(len(text), at+len(x))]))
		}
	}
	return out
}

// identityFamily reports whether a header's name, with "_" read as "-", says
// who or where the client is: the names of oracle O2.
func identityFamily(name string) bool {
	n := strings.ReplaceAll(strings.ToLower(name), "_", "-")
	for _, p := range []string{"impersonate", "x-remote-", "x-forwarded", "x-real-ip", "x-client-", "x-ssl-", "x-original-"} {
		if strings.HasPrefix(n, p) {
			return true
		}
	}
	return n == "authorization" || n == "proxy-authorization" || n == "forwarded" || n == "cookie" || n == "x-user" || n == "x-groups"
}

// ours reports whether a line of an identity family is one that the proxy
// itself must or may send. Judged by exact name: "Impersonate_User" is not.
func ours(f Field, addr string) bool {
	switch n := strings.ToLower(f.Name); {
	case n == "authorization", n == "impersonate-user", n == "impersonate-uid", n == "impersonate-group", strings.HasPrefix(n, extraPrefix):
		return true // their values are compared by Arrived
	case n == "x-forwarded-for":
		return f.Value == addr
	}
	return false
}

// Arrived judges one recorded request (oracles O1 and O2): the proxy's
// credential alone, the identity exactly, the configured host, and no header
// of the client's that says who it is. addr is the client's address.
func (u *Upstream) Arrived(r Record, want Identity, addr string) []string {
	var out []string
	for _, f := range r.Faults {
		out = append(out, "ambiguous request upstream: "+f)
	}
	if want.Token != "" {
		out = append(out, passedFaults(r, want)...)
	} else {
		out = append(out, u.impersonatedFaults(r, want)...)
	}
	if r.Authority != u.Addr {
		out = append(out, fmt.Sprintf("host upstream is %q, want %q", r.Authority, u.Addr))
	}
	if len(r.Trailers) > 0 || len(r.Fields.All("Trailer")) > 0 {
		out = append(out, fmt.Sprintf("trailers upstream: %v", r.Trailers))
	}
	for _, f := range r.Fields {
		if identityFamily(f.Name) && !ours(f, addr) {
			out = append(out, fmt.Sprintf("O2: client header upstream: %s: %s", f.Name, f.Value))
		}
	}
	return append(out, r.connectionFaults()...)
}

// impersonatedFaults is O1 where the proxy's own credential carries an identity.
func (u *Upstream) impersonatedFaults(r Record, want Identity) []string {
	var out []string
	if auth := r.Fields.All("Authorization"); u.token != "" && (len(auth) != 1 || auth[0] != "Bearer "+u.token) || u.token == "" && len(auth) > 0 {
		out = append(out, fmt.Sprintf("O1: %d Authorization lines upstream, or not the proxy's own", len(auth)))
	}
	if r.Certificate != (u.token == "") {
		out = append(out, fmt.Sprintf("O1: client certificate upstream: %v", r.Certificate))
	}
	if n := len(r.Fields.All("Impersonate-User")); n != 1 {
		out = append(out, fmt.Sprintf("O1: %d Impersonate-User lines upstream", n))
	}
	if n := len(r.Fields.All("Impersonate-Uid")); n > 1 || n == 1 && want.UID == "" {
		out = append(out, fmt.Sprintf("O1: %d Impersonate-Uid lines upstream", n))
	}
	if id, _ := Impersonated(r.Fields); id == nil || !id.Equal(want) {
		out = append(out, fmt.Sprintf("O1: identity upstream is %+.300v, want %+.300v", id, want))
	}
	return out
}

// passedFaults is O1 where the caller's own token goes on: exactly that token,
// nothing of the proxy's credential, and no identity beside it but the one that
// the caller asks for.
func passedFaults(r Record, want Identity) []string {
	var out []string
	if auth := r.Fields.All("Authorization"); len(auth) != 1 || auth[0] != "Bearer "+want.Token {
		out = append(out, fmt.Sprintf("O1: %d Authorization lines upstream, or not the caller's own token", len(auth)))
	}
	if r.Certificate {
		out = append(out, "O1: the proxy's client certificate upstream, beside the caller's token")
	}
	if want.As != nil {
		if id, _ := Impersonated(r.Fields); id == nil || !id.Equal(*want.As) {
			out = append(out, fmt.Sprintf("O1: beside the caller's token upstream: %+.300v, want %+.300v", id, want.As))
		}
		return out
	}
	for _, f := range r.Fields {
		if strings.HasPrefix(strings.ToLower(f.Name), "impersonate") {
			out = append(out, "O1: beside the caller's token upstream: "+f.Name)
		}
	}
	return out
}

// uncut is the record without the fault that its body ended short.
func (r Record) uncut() Record {
	r.Faults = slices.DeleteFunc(slices.Clone(r.Faults), func(f string) bool { return f == bodyCut })
	return r
}

// connectionFaults: an upgrade carries exactly "Connection: Upgrade", and no
// other request carries anything of the client's connection.
func (r Record) connectionFaults() []string {
	var out []string
	conn := r.Fields.All("Connection")
	if up := r.Fields.All("Upgrade"); len(up) > 0 {
		if len(up) != 1 || len(conn) != 1 || !strings.EqualFold(conn[0], "Upgrade") {
			out = append(out, fmt.Sprintf("upgrade upstream with Connection %q, Upgrade %q", conn, up))
		}
	} else if len(conn) > 0 {
		out = append(out, fmt.Sprintf("Connection upstream: %q", conn))
	}
	for _, n := range []string{"Proxy-Connection", "Keep-Alive", "Te", "Proxy-Authorization", "Http2-Settings"} {
		if v := r.Fields.All(n); len(v) > 0 {
			out = append(out, fmt.Sprintf("hop-by-hop header upstream: %s: %q", n, v))
		}
	}
	return out
}

var reasons = map[int][]string{
	400: {"BadRequest"}, 401: {"Unauthorized"}, 403: {"Forbidden"}, 405: {"MethodNotAllowed"},
	408: {"Timeout"}, 413: {"RequestEntityTooLarge"}, 429: {"TooManyRequests"}, 431: {"RequestHeaderFieldsTooLarge", "BadRequest", "RequestEntityTooLarge"}, 500: {"InternalError"},
	502: {"BadGateway", "InternalError", "ServiceUnavailable", "UpstreamUnauthorized"}, 503: {"ServiceUnavailable"},
}

// OwnAnswer judges an answer that gatehouse made itself by DESIGN.md's
// contract: a Status, one Warning with the same sentence, and the headers that
// keep it from being cached or guessed at.
func OwnAnswer(a *Answer, head bool) []string {
	var out []string
	bad := func(format string, args ...any) { out = append(out, "own answer: "+fmt.Sprintf(format, args...)) }
	for name, want := range map[string]string{"Cache-Control": "no-cache, private", "X-Content-Type-Options": "nosniff", "Content-Type": "application/json"} {
		if got := a.Fields.All(name); len(got) != 1 || got[0] != want {
			bad("%s is %q, want %q", name, got, want)
		}
	}
	if id := a.Fields.All("Audit-Id"); len(id) != 1 || id[0] == "" {
		bad("Audit-Id is %q", id)
	}
	challenge := a.Fields.All("Www-Authenticate")
	bearer := len(challenge) == 1 && (challenge[0] == "Bearer" || strings.HasPrefix(challenge[0], "Bearer "))
	if is401 := a.Status == 401; is401 != bearer || !is401 && len(challenge) > 0 {
		bad("%d with WWW-Authenticate %q", a.Status, challenge)
	}
	warnings := a.Fields.All("Warning")
	if len(warnings) != 1 || !strings.HasPrefix(warnings[0], `299 - "`) || !strings.HasSuffix(warnings[0], `"`) {
		bad("Warning is %q", warnings)
		return out
	}
	if head {
		return out
	}
	var s struct {
		Kind, APIVersion, Status, Message, Reason string
		Code                                      int
	}
	if err := json.Unmarshal(a.Body, &s); err != nil {
		bad("body is not JSON: %v: %.200q", err, a.Body)
		return out
	}
	if s.Kind != "Status" || s.APIVersion != "v1" || s.Status != "Failure" || s.Code != a.Status || s.Message == "" {
		bad("status %d with body %s", a.Status, a.Body)
	}
	if !slices.Contains(reasons[a.Status], s.Reason) {
		bad("reason %q with %d", s.Reason, a.Status)
	}
	if quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s.Message); warnings[0] != `299 - "`+quoted+`"` {
		bad("Warning %s says other than the message %q", warnings[0], s.Message)
	}
	return out
}
