package proxy

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/scope"
)

// answer is a response that gatehouse makes itself.
type answer struct {
	code    int
	reason  metav1.StatusReason
	message sentence
	again   again
}

// sentence is what gatehouse says to a caller: a constant of this type, so that
// the set is closed. Nothing of a request or a credential is quoted in one but
// the age of a verified token, and a word of its scope. docs/errors.md has them
// all: a test collects the constants, and wants cause and remedy of each.
type sentence string

// with returns s with a time in it, or a word of a scope.
func (s sentence) with(word string) sentence {
	return sentence(strings.Replace(string(s), "%s", word, 1))
}

// again says of which requests an answer has Retry-After. Clients repeat what
// was answered with it, whatever the method (client-go, up to ten times), so it
// stands only where sending again does no harm.
type again int

const (
	never   again = iota
	ofReads       // of a request that may have been sent: if its method is safe
	always        // nothing was sent
)

// retryAfter is how long a client should wait, in seconds.
const retryAfter = 1

// Answers about the request itself.
var (
	badTarget        = answer{code: 400, reason: metav1.StatusReasonBadRequest, message: "The request target must be a path on this server."}
	badUpgrade       = answer{code: 400, reason: metav1.StatusReasonBadRequest, message: "Only upgrades to websocket and SPDY/3.1 are passed on."}
	badExpectation   = answer{code: 417, reason: metav1.StatusReasonBadRequest, message: "Only the expectation 100-continue is understood."}
	badBody          = answer{code: 400, reason: metav1.StatusReasonBadRequest, message: "The request's body cannot be read."}
	crossSite        = answer{code: 403, reason: metav1.StatusReasonForbidden, message: "A page of another site may not use your client certificate."}
	badMethod        = answer{code: 405, reason: metav1.StatusReasonMethodNotAllowed, message: "This method is not passed on to the API server."}
	badImpersonation = answer{code: 400, reason: metav1.StatusReasonBadRequest, message: "Acting as another user (--as) takes one user name, and groups, uid and extra that can be passed on."}
	mayNotActAs      = answer{code: 403, reason: metav1.StatusReasonForbidden, message: "You may not act as this user, uid, group or extra (--as): the cluster's rules do not allow you to impersonate it."}
	neverAs          = answer{code: 403, reason: metav1.StatusReasonForbidden, message: "Nobody can act in the group system:masters, or as a node or gatehouse itself, through gatehouse."}
	badQuestion      = answer{code: 400, reason: metav1.StatusReasonBadRequest, message: "Acting as another user (--as) is not offered for a path or selector that is not UTF-8, or for so many parameters."}
	cannotTell       = answer{code: 503, reason: metav1.StatusReasonServiceUnavailable, message: "Whether you may act as another user cannot be asked now: try again in a moment.", again: always}
	noImpersonate    = answer{code: 403, reason: metav1.StatusReasonForbidden, message: "Acting as another user (--as) is not offered here: leave the Impersonate headers out."}
	cutOff           = answer{code: 503, reason: metav1.StatusReasonServiceUnavailable, message: "This gatehouse shut down before the API server had answered: the request may have been carried out.", again: ofReads}
	identityChanged  = answer{code: 503, reason: metav1.StatusReasonServiceUnavailable, message: "Who you are to the cluster changed while the request was under way, which may have been carried out: try again.", again: ofReads}
	draining         = answer{code: 503, reason: metav1.StatusReasonServiceUnavailable, message: "This gatehouse is shutting down: try again.", again: always}
	internalError    = answer{code: 500, reason: metav1.StatusReasonInternalError, message: "gatehouse met an error of its own: its operator finds it in the log by the audit id."}
	narrowDoor       = answer{code: 403, reason: metav1.StatusReasonForbidden, message: "This is not offered here for anybody: gatehouse may only do some things for people, and this is none of them."}
	scoped           = answer{code: 403, reason: metav1.StatusReasonForbidden, message: "Your token may not be used for this: its scope has the word %s."}
	noCredentials    = answer{code: 403, reason: metav1.StatusReasonForbidden, message: "Your token may not be used to make other credentials: it has a scope, and they would have none."}
	looping          = answer{code: 508, reason: metav1.StatusReasonInternalError, message: "gatehouse's API server is gatehouse itself, or a row of too many of them: its operator has to mend that."}
)

// Answers about the way from gatehouse to the API server.
var (
	upstreamDown    = answer{code: 503, reason: metav1.StatusReasonServiceUnavailable, message: "gatehouse cannot reach the API server: try again in a moment.", again: always}
	upstreamStarts  = answer{code: 503, reason: metav1.StatusReasonServiceUnavailable, message: "The API server is not ready to serve yet: try again in a moment.", again: always}
	upstreamBroken  = answer{code: 502, reason: metav1.StatusReasonInternalError, message: "The connection between gatehouse and the API server failed before an answer came that could be passed on.", again: ofReads}
	upstreamFalse   = answer{code: 502, reason: metav1.StatusReasonInternalError, message: "gatehouse does not trust the certificate of what answers for the API server: its operator has to mend that."}
	unclearReview   = answer{code: 502, reason: metav1.StatusReasonInternalError, message: "What your token may be used for cannot be told: gatehouse does not understand what the API server says, and your token's scope allows less."}
	upstreamSlow    = answer{code: 504, reason: metav1.StatusReasonTimeout, message: "The API server did not answer gatehouse in time.", again: ofReads}
	upstreamRefused = answer{code: 502, reason: metav1.StatusReasonInternalError, message: "The API server does not accept gatehouse's own credential: its operator has to mend that. Yours is not at fault."}
	upstreamForbids = answer{code: 502, reason: metav1.StatusReasonInternalError, message: "The API server does not let gatehouse do this for you: its operator has to mend the rights of gatehouse. Yours are not at fault."}
)

// outOfScope answers what a scope does not allow. The word is one of the few that
// a scope can have.
func outOfScope(d *scope.Denial) *answer {
	if d.Credentials {
		return &noCredentials
	}
	a := scoped
	a.message = a.message.with(d.Word)
	return &a
}

// notAccepted is said of every credential that is refused before anything in it
// could be trusted, whatever the reason.
const notAccepted sentence = "Your credential was not accepted: it is damaged, or was not issued for this server. Sign in again, or ask your administrator."

// refusalSentences are the messages of refusals that say more than notAccepted.
// They have one %s if the reason speaks of a moment.
var refusalSentences = map[auth.Reason]sentence{
	auth.NoCredential:       "You are not signed in: send a bearer token.",
	auth.BadHeader:          "The Authorization header cannot be read: it must be the word Bearer and one token.",
	auth.SeveralCredentials: "The request carries more than one credential: send exactly one.",
	auth.UnsupportedScheme:  "This kind of credential is not accepted: send a bearer token in the Authorization header.",
	auth.TokenTooLong:       "Your token is too long to be accepted.",
	auth.IssuerUnavailable:  "Your token cannot be checked now, because its issuer's keys are not known yet: try again in a moment.",
	auth.Expired:            "Your token expired %s ago: sign in again.",
	auth.NotYetValid:        "Your credential is not valid yet, it will be in %s: check the clock of whoever issued it.",
	auth.WrongAudience:      "Your token was issued for another application: sign in for this cluster.",
	auth.WrongParty:         "Your token was issued to an application that may not be used with this cluster.",
	auth.WrongTokenType:     "Your token is no ID token: sign in again, and send the ID token.",
	auth.BadUsernameClaim:   "Your token does not name you in the way that this cluster expects: ask your administrator which claim is used.",
	auth.UnverifiedEmail:    "Your e-mail address is not verified: verify it with your identity provider and sign in again.",
	auth.BadGroupsClaim:     "The groups in your token cannot be read: ask your administrator to look at the groups claim.",
	auth.RequiredClaim:      "Your token lacks a claim that this cluster requires: ask your administrator for access.",
	auth.BadMapping:         "Your token does not hold what this cluster expects of it: ask your administrator which claims are used.",
	auth.ClaimRule:          "Your token does not meet a rule of this cluster: ask your administrator for access.",
	auth.UserRule:           "Your user name or groups do not meet a rule of this cluster: ask your administrator for access.",
	auth.BadName:            "Your user name or one of your groups holds characters that cannot be passed on: ask your administrator.",
	auth.ReservedName:       "Your user name or one of your groups is reserved for Kubernetes itself, and is not accepted here.",
	auth.IdentityTooLarge:   "You are in more groups than can be passed on: ask your administrator to send fewer.",
	auth.UnsupportedClaims:  "You are in so many groups that your token only says where to find them, and gatehouse may not look there: ask your administrator to send fewer, or to allow it.",
	auth.GroupsUnavailable:  "Your groups cannot be looked up now, and without them you are not signed in: try again in a moment.",
	auth.GroupsRefused:      "Your groups cannot be looked up, because your token or your account is not accepted there: sign in again, or ask your administrator.",
	auth.BadCertificate:     "Your client certificate does not name a user for client authentication: ask your administrator for another.",
	auth.CertificateExpired: "Your client certificate expired %s ago: get a new one.",
	auth.CertificateRevoked: "Your client certificate was revoked: get a new one, or ask your administrator.",
	auth.CRLStale:           "Whether your client certificate was revoked cannot be told now: ask your administrator to renew the revocation list.",
	auth.CRLMissing:         "Whether your client certificate was revoked cannot be told: ask your administrator for the revocation list of its issuer.",
	auth.Revoked:            "Your access has been revoked: sign in again, or ask your administrator.",
	auth.OriginGone:         "What your session token was made of is not accepted any more: sign in again.",
	auth.InternalAuthFailed: "Your credential cannot be checked now: try again in a moment.",
}

// refusalAnswer returns the one answer to a refusal.
func refusalAnswer(refusal *auth.Refusal, now time.Time) answer {
	message, ok := refusalSentences[refusal.Reason]
	if !ok {
		message = notAccepted
	}
	if refusal.NoVerdict() {
		return answer{code: 503, reason: metav1.StatusReasonServiceUnavailable, message: message, again: always}
	}
	switch refusal.Reason {
	case auth.Expired, auth.CertificateExpired:
		message = message.with(roundDuration(now.Sub(refusal.At)))
	case auth.NotYetValid:
		message = message.with(roundDuration(refusal.At.Sub(now)))
	case auth.ReservedName, auth.IdentityTooLarge:
		return answer{code: 403, reason: metav1.StatusReasonForbidden, message: message}
	}
	return answer{code: 401, reason: metav1.StatusReasonUnauthorized, message: message}
}

// roundDuration writes d in its largest unit: "5 minutes".
func roundDuration(d time.Duration) string {
	for _, unit := range []struct {
		name string
		size time.Duration
	}{{"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}} {
		if n := int(d / unit.size); n == 1 {
			return "1 " + unit.name
		} else if n > 1 {
			return strconv.Itoa(n) + " " + unit.name + "s"
		}
	}
	if n := int(d / time.Second); n > 1 {
		return strconv.Itoa(n) + " seconds"
	}
	return "1 second"
}

const (
	// unwantedBody is how long the rest of a refused request may take.
	unwantedBody = time.Second
	// unreadAnswer is how long a caller may take to read an answer of gatehouse's own.
	// Over HTTP/2 a stranger could keep one waiting for as long as he likes.
	unreadAnswer = 30 * time.Second
)

// repeatable reports whether r, answered with a, can be made again without harm
// (RFC 9110 section 9.2.1).
func (a answer) repeatable(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		if r.Header["Upgrade"] == nil { // an exec over WebSocket is a GET
			return a.again != never
		}
	}
	return a.again == always
}

// write sends a as a metav1.Status, and again as a Warning: kubectl drops the
// body of an error while it discovers the API, and prints warnings.
func (a answer) write(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		// Else net/http would wait, without an end, for a body that nobody
		// wants before it sends the answer.
		h.Set("Connection", "close")
		// Not every writer has deadlines; the answer is right without one too.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(unwantedBody))
	}
	if r.ProtoMajor == 2 { // over HTTP/1.1 it would hold for the requests that follow
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(unreadAnswer))
	}
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-cache, private")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Warning", `299 - "`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(string(a.message))+`"`)
	status := metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure,
		Message:  string(a.message),
		Reason:   a.reason,
		Code:     int32(a.code),
	}
	if a.repeatable(r) {
		h.Set("Retry-After", strconv.Itoa(retryAfter))
		status.Details = &metav1.StatusDetails{RetryAfterSeconds: retryAfter}
	}
	switch a.code {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="kubernetes"`)
		if r.ProtoMajor == 2 {
			// As kube-apiserver does: a stranger's connection is not kept open.
			h.Set("Connection", "close")
		}
	case http.StatusMethodNotAllowed:
		h.Set("Allow", strings.Join(methods[:], ", "))
	}
	body, err := json.Marshal(status)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	body = append(body, '\n')
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(a.code)
	if r.Method != http.MethodHead {
		// The caller may have gone; there is nobody left to tell.
		_, _ = w.Write(body)
	}
}
