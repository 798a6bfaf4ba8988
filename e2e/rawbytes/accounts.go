package rawbytes

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// ownAccount is the user name of the proxy, at the fake API server.
const ownAccount = "system:serviceaccount:gatehouse:gatehouse"

// What the proxy asks the API server on its own account.
const (
	reviewPath = "/apis/authentication.k8s.io/v1/tokenreviews"
	selfPath   = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
)

// AccountToken has the form of a ServiceAccount's token. The fake does not look
// at signatures: it accepts what [Upstream.Accept] was told of. id makes it
// another token, and is its `jti`.
func AccountToken(account, id string) string {
	part := base64.RawURLEncoding.EncodeToString
	now := time.Now()
	return part([]byte(`{"alg":"RS256","kid":"fake"}`)) + "." + part(fmt.Appendf(nil,
		`{"iss":"https://kubernetes.default.svc","sub":%q,"aud":["fake"],"jti":%q,"iat":%d,"exp":%d}`,
		account, id, now.Unix(), now.Add(time.Hour).Unix())) + "." + part([]byte("canary-signature-"+id))
}

// Accept makes the tokens be those of ServiceAccounts: users are the accounts by
// their tokens. A review still accepts what is gone, and a request does not: it
// was deleted meanwhile.
func (u *Upstream) Accept(users map[string]string, gone ...string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.review, u.gone = func(token string) string { return users[token] }, map[string]bool{}
	for _, token := range gone {
		u.gone[token] = true
	}
}

// Shown are the tokens that the fake was asked to review.
func (u *Upstream) Shown() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.shown)
}

// caller says whose credential a request carries, as kube-apiserver does: the
// connection's certificate counts before any token. It is empty for nobody's.
func (u *Upstream) caller(r *Record) string {
	if r.Certificate {
		return ownAccount
	}
	auth := r.Fields.All("Authorization")
	if len(auth) != 1 {
		return ""
	}
	token, found := strings.CutPrefix(auth[0], "Bearer ")
	switch {
	case !found:
		return ""
	case u.token != "" && token == u.token:
		return ownAccount
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.review == nil || u.gone[token] {
		return ""
	}
	return u.review(token)
}

// certified reports whether the client of c presented a certificate.
func certified(c net.Conn) bool {
	tc, ok := c.(*tls.Conn)
	return ok && len(tc.ConnectionState().PeerCertificates) > 0
}

// reviewReply answers a TokenReview or a SelfSubjectReview.
func (u *Upstream) reviewReply(path string, body []byte) reply {
	object := func(kind string, status any) reply {
		text, err := json.Marshal(map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": kind, "status": status})
		if err != nil {
			return statusReply(500, "InternalError")
		}
		return reply{status: 201, fields: jsonType, body: string(text)}
	}
	if path == selfPath {
		return object("SelfSubjectReview", map[string]any{"userInfo": map[string]any{"username": ownAccount}})
	}
	var asked struct{ Spec struct{ Token string } }
	if json.Unmarshal(body, &asked) != nil {
		return statusReply(400, "BadRequest")
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.shown = append(u.shown, asked.Spec.Token)
	name := ""
	if u.review != nil {
		name = u.review(asked.Spec.Token)
	}
	if name == "" {
		return object("TokenReview", map[string]any{"error": "[invalid bearer token]"})
	}
	return object("TokenReview", map[string]any{"authenticated": true, "audiences": []string{"fake"}, "user": map[string]any{
		"username": name, "uid": "uid-" + name, "groups": []string{"system:serviceaccounts", "system:authenticated"},
	}})
}
