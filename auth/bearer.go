package auth

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
)

// MaxTokenBytes is the longest bearer token that is looked at. It bounds the
// work that a stranger can cause before any signature is checked.
const MaxTokenBytes = 32 << 10

// WebSocketBearerPrefix begins the Sec-WebSocket-Protocol entry by which
// browsers send a bearer token (kube-apiserver v1.37,
// pkg/authentication/request/websocket).
const WebSocketBearerPrefix = "base64url.bearer.authorization.k8s.io."

// Bearer returns an [Authenticator] that reads one bearer token from the
// Authorization header (RFC 6750 section 2.1), or, of a browser's WebSocket
// request, from Sec-WebSocket-Protocol, and asks each of ts in turn. The
// first that knows the token decides.
//
// A request without any credential gives ErrNotMine. A credential that cannot
// be read, or that nobody knows, is refused: it is never the same as none.
func Bearer(ts ...TokenAuthenticator) Authenticator { return bearer(ts) }

type bearer []TokenAuthenticator

func (b bearer) Authenticate(r *http.Request) (*Identity, error) {
	token, err := BearerToken(r.Header)
	if err != nil {
		return nil, err
	}
	for _, t := range b {
		id, err := t.AuthenticateToken(r.Context(), token)
		if !errors.Is(err, ErrNotMine) {
			return id, err
		}
	}
	return nil, Refuse(KindUnknown, UnknownToken, "no authenticator knows this token")
}

// BearerToken returns the one bearer token of a request's header.
//
// It is stricter than kube-apiserver's parser: it refuses a second
// Authorization header, a scheme other than Bearer, an empty token, and
// anything after the token, where kube-apiserver ignores them. Without any
// credential it returns ErrNotMine.
func BearerToken(h http.Header) (string, error) {
	values := h["Authorization"]
	entries, others := webSocketProtocols(h)
	switch len(values) + len(entries) {
	case 0:
		return "", ErrNotMine
	case 1:
	default:
		return "", Refuse(KindUnknown, SeveralCredentials, "the request carries more than one credential")
	}
	if len(entries) == 1 {
		return webSocketToken(h, entries[0], others)
	}
	// HTTP/1.1 takes away the white space around a value, HTTP/2 does not.
	scheme, token, found := strings.Cut(strings.Trim(values[0], " \t"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", Refuse(KindUnknown, UnsupportedScheme, "the scheme of the Authorization header is not Bearer")
	}
	switch {
	case !found || token == "":
		return "", Refuse(KindUnknown, BadHeader, "the Authorization header carries no token")
	case token[0] == ' ': // for kube-apiserver this is no token
		return "", Refuse(KindUnknown, BadHeader, "the Authorization header has more than one space before the token")
	case len(token) > MaxTokenBytes:
		return "", Refuse(KindUnknown, TokenTooLong, "the token is longer than the limit")
	case !IsBearerToken(token):
		return "", Refuse(KindUnknown, BadHeader, "the Authorization header carries more than a token")
	}
	return token, nil
}

// IsBearerToken reports whether s has the form of a bearer token: visible ASCII
// without a comma, at most MaxTokenBytes. RFC 6750's b64token is narrower, but
// static tokens of kube-apiserver's CSV file may hold other visible characters.
// The comma is left out because it joins header values into lists (RFC 9110
// section 5.3).
func IsBearerToken(s string) bool {
	if s == "" || len(s) > MaxTokenBytes {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == ',' {
			return false
		}
	}
	return true
}

// webSocketProtocols splits Sec-WebSocket-Protocol into the entries that carry a
// token and the number of the others.
func webSocketProtocols(h http.Header) (tokens []string, others int) {
	for _, line := range h["Sec-Websocket-Protocol"] {
		for entry := range strings.SplitSeq(line, ",") {
			switch entry = strings.TrimSpace(entry); {
			case IsWebSocketBearer(entry):
				tokens = append(tokens, entry)
			case entry != "":
				others++
			}
		}
	}
	return tokens, others
}

// webSocketToken returns the token of an entry, by kube-apiserver's rules
// (v1.37, pkg/authentication/request/websocket): on a WebSocket request alone,
// in unpadded base64url, beside another protocol that can be answered. Where
// kube-apiserver would overlook an entry in another case, it is refused.
func webSocketToken(h http.Header, entry string, others int) (string, error) {
	encoded, found := strings.CutPrefix(entry, WebSocketBearerPrefix)
	if !isWebSocket(h) || !found || others == 0 {
		return "", Refuse(KindUnknown, BadHeader, "a token in Sec-WebSocket-Protocol is for WebSocket requests, beside another protocol")
	}
	token, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	switch {
	case err != nil || len(token) == 0:
		return "", Refuse(KindUnknown, BadHeader, "the token in Sec-WebSocket-Protocol is not unpadded base64url")
	case len(token) > MaxTokenBytes:
		return "", Refuse(KindUnknown, TokenTooLong, "the token is longer than the limit")
	case !IsBearerToken(string(token)):
		return "", Refuse(KindUnknown, BadHeader, "Sec-WebSocket-Protocol carries something else than a token")
	}
	return string(token), nil
}

func isWebSocket(h http.Header) bool {
	for _, line := range h["Connection"] {
		for option := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(option), "Upgrade") {
				return strings.EqualFold(h.Get("Upgrade"), "websocket")
			}
		}
	}
	return false
}

// IsWebSocketBearer reports whether an entry of Sec-WebSocket-Protocol carries
// a bearer token, in any case of letters and with white space around it.
func IsWebSocketBearer(entry string) bool {
	entry = strings.TrimSpace(entry)
	return len(entry) >= len(WebSocketBearerPrefix) &&
		strings.EqualFold(entry[:len(WebSocketBearerPrefix)], WebSocketBearerPrefix)
}
