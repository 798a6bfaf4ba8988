package exchange

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth/session"
	"github.com/kube-gatehouse/gatehouse/proxy"
)

// fault is an answer that gives no token. Its description is a sentence of a
// closed set, in the characters of RFC 6749 section 5.2.
type fault struct {
	code        int
	name        string // `error`; empty where RFC 6749 does not speak
	description string
	retryAfter  int // seconds
	// quoting goes on behind description, for the caller alone: his own words are in
	// it, and a token may be among them.
	quoting string
}

func invalidRequest(description string) *fault {
	return &fault{400, "invalid_request", description, 0, ""}
}
func invalidTarget(description string) *fault {
	return &fault{400, "invalid_target", description, 0, ""}
}
func invalidScope(description string) *fault { return &fault{400, "invalid_scope", description, 0, ""} }
func later(code int, description string) *fault {
	return &fault{code, "temporarily_unavailable", description, 1, ""}
}

// What is wrong with the form of a request.
var (
	notServed      = &fault{404, "", "This is gatehouse's token exchange: nothing is served at this path.", 0, ""}
	notGet         = &fault{405, "", "Use GET here.", 0, ""}
	notPost        = &fault{405, "invalid_request", "Use POST here.", 0, ""}
	notForm        = invalidRequest("The body must be a form (application/x-www-form-urlencoded) that can be read.")
	inQuery        = invalidRequest("Parameters belong into the body: the URL of a request is logged in many places.")
	tooLong        = &fault{413, "invalid_request", "The request is too long.", 0, ""}
	slow           = &fault{408, "invalid_request", "The body of the request took too long to arrive.", 0, ""}
	twice          = invalidRequest("A parameter stands twice that may stand once.")
	noGrantType    = invalidRequest("grant_type is missing: it is " + GrantType + ".")
	otherGrantType = &fault{400, "unsupported_grant_type", "Tokens are exchanged here, and nothing else: grant_type is " + GrantType + ".", 0, ""}
	noSubject      = invalidRequest("subject_token and subject_token_type are needed.")
	halfActor      = invalidRequest("actor_token and actor_token_type go together.")
	badToken       = invalidRequest("A token holds characters that no token has, or is too long.")
	wrongType      = invalidRequest("A token is not of the type that is said: id_token, jwt and access_token are known.")
	otherTokenType = invalidRequest("requested_token_type must be access_token or jwt: no others are made here.")
	badLifetime    = invalidRequest("expires_in must be a number of seconds.")
	badClientID    = invalidRequest("client_id is too long, or holds characters that it may not.")

	// 401 answers the header alone (RFC 6749 section 5.2): OAuth libraries take it for
	// a challenge, and show no sentence.
	clientAuthentication = &fault{401, "invalid_client", "No client is registered here: send no Authorization header. The subject_token is what proves who asks.", 0, ""}
	clientSecret         = &fault{400, "invalid_client", "No client is registered here: send no client secret and no client assertion. The subject_token is what proves who asks.", 0, ""}
)

// What is wrong with whom or what a token is asked for.
var (
	badAudience     = invalidTarget("There are too many audiences, or one is too long.")
	otherResource   = invalidTarget("This resource is not known: it is urn:kubernetes:serviceaccount:<namespace>:<name>, or none for a session token.")
	otherAudience   = invalidTarget("A session token is for this gatehouse alone. For another audience ask for the token of a ServiceAccount, by resource.")
	badAccount      = invalidTarget("The resource names no ServiceAccount: it is urn:kubernetes:serviceaccount:<namespace>:<name>.")
	noAudience      = invalidTarget("Say by audience for whom the ServiceAccount's token is to be: it is accepted by nobody else.")
	mayNotHave      = invalidTarget("You may not have a token of this ServiceAccount: the cluster's rules, or the scope of your token, do not let you create serviceaccounts/token there.")
	noAccount       = invalidTarget("There is no such ServiceAccount.")
	badTokenRequest = invalidTarget("The API server makes no token for this audience and lifetime.")
	accountScope    = invalidScope("The token of a ServiceAccount cannot be narrowed: leave the scope out.")
	accountActor    = invalidRequest("Nobody can act in the token of a ServiceAccount: exchange for a session token first.")
	shortAccount    = invalidRequest("The token of a ServiceAccount lives for 600 seconds at least.")

	noSessions   = invalidTarget("No session tokens are made here: ask for the token of a ServiceAccount, by resource.")
	wrongKind    = invalidRequest("This credential cannot be exchanged.")
	notNameable  = invalidTarget("No session token can name you, because your name or one of your groups is reserved for Kubernetes itself. Ask for the token of a ServiceAccount, by resource.")
	tooLarge     = invalidTarget("You are in more groups than a session token has room for: ask your administrator to send fewer.")
	tooManySteps = invalidRequest("The chain of exchanges or actors is too long, or somebody is to act who is acted for: begin with the first token.")
	ending       = invalidRequest("Your token ends now: sign in again.")
	longScope    = invalidScope("The scopes together have too many words.")
	noActors     = invalidRequest("Nobody may act for anybody here: leave actor_token out.")
	mayNotAct    = invalidRequest("The actor may not act for you: the cluster's rules do not give it the verb act-for on users.kube-gatehouse.github.io with your name.")
)

// What may be otherwise in a moment.
var (
	busy             = later(503, "gatehouse has too many exchanges under way: try again in a moment.")
	crowded          = later(503, "Too many requests for tokens are on their way from your address, or to gatehouse: try again in a moment.")
	tooOften         = later(429, "You exchange too many tokens: try again in a moment, and use each for as long as it lives.")
	cannotTell       = later(503, "Whether the actor may act for you cannot be asked now: try again in a moment.")
	unavailable      = later(503, "The API server made no token: try again in a moment, or ask your administrator.")
	internal         = later(503, "gatehouse could not make a token: try again in a moment, or ask your administrator.")
	notAcceptedThere = invalidRequest("Your token was accepted, and is not any more: sign in again.")
)

// sessionFaults are what the errors of [session.Sessions.Issue] mean to the
// caller.
var sessionFaults = map[error]*fault{
	session.ErrNoKeys: noSessions, session.ErrChain: tooManySteps, session.ErrEnding: ending,
	session.ErrScope: longScope, session.ErrTooLarge: tooLarge, session.ErrUnsupported: wrongKind,
}

// badScope says which word of a scope is not known. The word is the caller's, and
// quoted in the characters that a description may have.
func badScope(err error) *fault {
	return &fault{400, "invalid_scope", "Your scope cannot be read", 0, described(": " + err.Error() + ".")}
}

// refused says why a token is not accepted, as the proxy would.
func refused(err error) *fault {
	why, ok := errors.AsType[*proxy.Refused](err)
	if !ok {
		return internal
	}
	if why.Code == http.StatusServiceUnavailable || why.Code == http.StatusTooManyRequests {
		return later(why.Code, described(why.Message))
	}
	return invalidRequest(described(why.Message)) // RFC 8693 section 2.2.2
}

// described writes text in the characters of an error_description.
func described(text string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == '"':
			return '\''
		case c < ' ' || c > '~' || c == '\\':
			return '?'
		}
		return c
	}, text)
}

// writeError answers with f (RFC 6749 section 5.2).
func writeError(w http.ResponseWriter, f *fault) {
	body := struct {
		Error       string `json:"error,omitempty"`
		Description string `json:"error_description"`
	}{f.name, f.description + f.quoting}
	if f.code == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="gatehouse token exchange"`)
	}
	if f.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(f.retryAfter))
	}
	if f.code == http.StatusRequestEntityTooLarge || f.code == http.StatusRequestTimeout {
		w.Header().Set("Connection", "close")
	}
	write(w, f.code, body)
}

// writeToken answers with a token (RFC 8693 section 2.2.1).
func writeToken(w http.ResponseWriter, made *issued, now time.Time) {
	write(w, http.StatusOK, struct {
		Token   string `json:"access_token"`
		Type    string `json:"issued_token_type"`
		Use     string `json:"token_type"`
		Expires int64  `json:"expires_in"`
		Scope   string `json:"scope,omitempty"`
	}{made.token, made.typ, "Bearer", max(0, int64(made.expires.Sub(now)/time.Second)), made.scope.String()})
}

// write answers with JSON that nobody keeps (RFC 6749 section 5.1).
func write(w http.ResponseWriter, code int, body any) {
	content, err := json.Marshal(body)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
	h.Set("Content-Length", fmt.Sprint(len(content)))
	w.WriteHeader(code)
	_, _ = w.Write(content) // the caller may have gone
}
