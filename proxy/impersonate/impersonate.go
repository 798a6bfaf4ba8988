// Package impersonate answers: which headers say who the user is?
//
// Impersonation fails open: a request whose Impersonate-User header gets lost
// is served by the API server as gatehouse's own account. So the header of an
// outgoing request is built here from nothing, in one function, from a list of
// the names that may pass; nothing that the caller sent is edited.
package impersonate

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Header names of kube-apiserver's impersonation
// (k8s.io/api v0.37, authentication/v1).
const (
	userHeader  = "Impersonate-User"
	uidHeader   = "Impersonate-Uid"
	groupHeader = "Impersonate-Group"
	extraPrefix = "Impersonate-Extra-"
)

// HopHeader names the gatehouses through which a request has come, by their ids.
const HopHeader = "Gatehouse-Via"

// passed are the caller's headers that the API server gets as they are, in
// their canonical form: what kube-apiserver, its clients and the streaming
// protocols read, and nothing that names a person, an address or a connection.
var passed = [...]string{
	"Accept",
	"Accept-Encoding",
	"Accept-Language",
	"Cache-Control",
	"Content-Encoding",
	"Content-Language",
	"Content-Type",
	"If-Match",
	"If-Modified-Since",
	"If-None-Match",
	"If-Range",
	"If-Unmodified-Since",
	"Kubectl-Command",
	"Kubectl-Session",
	"Pragma",
	"Range",
	"Traceparent",
	"Tracestate",
	"User-Agent",
}

// passedUpgrades are passed with an upgrade alone. Sec-Websocket-Protocol
// passes too, without the entries that carry a token.
var passedUpgrades = [...]string{
	"Origin",
	"Sec-Websocket-Extensions",
	"Sec-Websocket-Key",
	"Sec-Websocket-Version",
	"X-Stream-Protocol-Version",
}

// PassedHeaders returns the names that pass with every request, for documents.
func PassedHeaders() []string { return slices.Clone(passed[:]) }

// Request is what an outgoing header is made of.
type Request struct {
	In            http.Header // the caller's header; read only
	Upgrade       string      // the protocol to upgrade to, or empty
	User          *auth.User  // whom to serve; checked by auth.NamePolicy
	Authorization string      // gatehouse's own credential, or empty where it is a client certificate
	AuditID       string      // this request's id
	ClientAddress string      // the caller's address, without port
	Via           string      // ids of gatehouses; empty for none
}

// Header returns the whole header of the outgoing request. An error means that
// the identity could not be written as it is; nothing may be sent then.
func Header(r Request) (http.Header, error) {
	out := passable(r)
	if r.Authorization != "" {
		out["Authorization"] = []string{r.Authorization}
	}
	groups := withoutAdded(r.User)
	setUser(out, r.User, groups)
	if err := verify(out, r.User, groups); err != nil {
		return nil, err
	}
	return out, nil
}

// withoutAdded returns u's groups without the one that the API server adds itself,
// and would want a right for. It adds that to nobody who is anonymous or in the
// group of those who are; and a ServiceAccount that is named with any group at all
// is not given the groups of ServiceAccounts.
func withoutAdded(u *auth.User) []string {
	if !slices.Contains(u.Groups, auth.AuthenticatedGroup) ||
		u.Name == auth.AnonymousUser || IsServiceAccount(u.Name) || slices.Contains(u.Groups, auth.UnauthenticatedGroup) {
		return u.Groups
	}
	return slices.DeleteFunc(slices.Clone(u.Groups), func(group string) bool { return group == auth.AuthenticatedGroup })
}

// Passed returns the whole header of an outgoing request that the API server is
// to judge by token, the caller's own: with nothing of gatehouse's credential.
// r.User is whom the caller asks to be, or nil: the API server decides about that
// too. r.Authorization is not used.
func Passed(r Request, token string) (http.Header, error) {
	if !auth.IsBearerToken(token) {
		return nil, errors.New("there is no token to pass on") // never a request without a credential
	}
	out := passable(r)
	out["Authorization"] = []string{"Bearer " + token}
	if r.User == nil {
		return out, nil
	}
	setUser(out, r.User, r.User.Groups) // every one: the API server wants a right for each
	if err := verify(out, r.User, r.User.Groups); err != nil {
		return nil, err
	}
	return out, nil
}

// passable returns what is the same in every outgoing header: what the caller
// may say, and what gatehouse says of the request. No credential is in it.
func passable(r Request) http.Header {
	out := make(http.Header, 8)
	for _, name := range passed {
		if values := r.In[name]; len(values) > 0 {
			out[name] = values
		}
	}
	if r.Upgrade != "" {
		setUpgrade(out, r)
	}
	out["Audit-Id"] = []string{r.AuditID}
	if r.ClientAddress != "" {
		out["X-Forwarded-For"] = []string{r.ClientAddress}
	}
	if r.Via != "" {
		out[HopHeader] = []string{r.Via}
	}
	return out
}

func setUpgrade(out http.Header, r Request) {
	for _, name := range passedUpgrades {
		if values := r.In[name]; len(values) > 0 {
			out[name] = values
		}
	}
	if protocols := withoutTokens(r.In["Sec-Websocket-Protocol"]); protocols != "" {
		out["Sec-Websocket-Protocol"] = []string{protocols}
	}
	out["Connection"] = []string{"Upgrade"}
	out["Upgrade"] = []string{r.Upgrade}
}

func withoutTokens(lines []string) string {
	var keep []string
	for _, line := range lines {
		for entry := range strings.SplitSeq(line, ",") {
			if entry = strings.TrimSpace(entry); entry != "" && !auth.IsWebSocketBearer(entry) {
				keep = append(keep, entry)
			}
		}
	}
	return strings.Join(keep, ", ")
}

func setUser(out http.Header, user *auth.User, groups []string) {
	out[userHeader] = []string{user.Name}
	if user.UID != "" {
		out[uidHeader] = []string{user.UID}
	}
	if len(groups) > 0 {
		out[groupHeader] = slices.Clone(groups)
	}
	for key, values := range user.Extra {
		if len(values) > 0 {
			out[http.CanonicalHeaderKey(extraPrefix+escapeKey(key))] = slices.Clone(values)
		}
	}
}

// errIdentity says that a header does not carry the identity that was decided.
var errIdentity = errors.New("the outgoing header does not carry the identity that was decided")

// verify reads the header back as the API server will, white space trimmed as
// HTTP/1.1 does, and compares it with user and groups. It guards against whatever
// may go wrong between the decision and the wire.
func verify(out http.Header, user *auth.User, want []string) error {
	if got := out[userHeader]; len(got) != 1 || got[0] == "" || trimmed(got[0]) != user.Name {
		return fmt.Errorf("%w: user", errIdentity)
	}
	families := 1
	if user.UID != "" {
		if got := out[uidHeader]; len(got) != 1 || trimmed(got[0]) != user.UID {
			return fmt.Errorf("%w: uid", errIdentity)
		}
		families++
	}
	groups := out[groupHeader]
	if len(groups) > 0 {
		families++
	}
	for _, group := range want {
		if len(groups) == 0 || groups[0] != group || trimmed(group) != group || group == "" {
			return fmt.Errorf("%w: groups", errIdentity)
		}
		groups = groups[1:]
	}
	for key, values := range user.Extra {
		if len(values) == 0 {
			continue
		}
		if got := out[http.CanonicalHeaderKey(extraPrefix+escapeKey(key))]; !slices.Equal(got, values) {
			return fmt.Errorf("%w: extra", errIdentity)
		}
		families++
	}
	for name := range out {
		if strings.HasPrefix(name, "Impersonate-") {
			families--
		}
	}
	if families != 0 || len(groups) != 0 {
		return fmt.Errorf("%w: uid, groups or extra", errIdentity)
	}
	return nil
}

func trimmed(value string) string { return strings.Trim(value, " \t") }

// escapeKey writes an extra key so that it may stand in a header name, as
// client-go does: kube-apiserver lowers the name and undoes the percent
// encoding.
func escapeKey(key string) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(key) {
		if c := key[i]; c != '%' && isTokenByte(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	return b.String()
}

// isTokenByte reports whether c may stand in a header name (RFC 9110 section 5.6.2).
func isTokenByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	default:
		return strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
	}
}

// Asked returns the name of a header by which the caller asks to be somebody
// else, in any spelling that some hop could take for one: any case, and `_`
// for `-`. It returns "" if there is none.
func Asked(in http.Header) string {
	for name := range in {
		if asks(name) {
			return name
		}
	}
	return ""
}
