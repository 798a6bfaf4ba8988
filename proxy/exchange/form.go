package exchange

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/scope"
)

// GrantType is that of RFC 8693.
const GrantType = "urn:ietf:params:oauth:grant-type:token-exchange"

// Types of tokens (RFC 8693 section 3).
const (
	typePrefix      = "urn:ietf:params:oauth:token-type:"
	typeIDToken     = typePrefix + "id_token"
	typeJWT         = typePrefix + "jwt"
	typeAccessToken = typePrefix + "access_token"
)

// accountPrefix begins the resource of a ServiceAccount's token.
const accountPrefix = "urn:kubernetes:serviceaccount:"

const (
	maxForm      = 256 << 10 // two tokens, percent-encoded throughout
	maxClientID  = 256
	maxAudiences = 8
	maxAudience  = 1024
	maxLifetime  = 365 * 24 * time.Hour
)

// form is a request that can be read.
type form struct {
	subject   subject
	actor     *subject
	account   *account // nil: a session token is wanted
	audiences []string
	scope     scope.Scope
	lifetime  time.Duration // 0: as long as it may live
	wanted    string        // the type of token
	clientID  string
}

// subject is a token that somebody presents, and the type that he says it has.
type subject struct{ token, typ string }

// account is a ServiceAccount.
type account struct{ namespace, name string }

func (f *form) target() string {
	if f.account != nil {
		return targetAccount
	}
	return targetSession
}

// once are the parameters that may not stand twice (RFC 6749 section 3.2).
var once = []string{
	"grant_type", "subject_token", "subject_token_type", "actor_token", "actor_token_type", "resource", "scope",
	"requested_token_type", "expires_in", "client_id", "client_secret", "client_assertion", "client_assertion_type",
}

// readForm reads the parameters of a request. Parameters that nobody knows are
// passed over, as RFC 6749 section 3.2 has it.
func (s *Server) readForm(w http.ResponseWriter, r *http.Request) (*form, *fault) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		return nil, notPost
	}
	if r.Header["Authorization"] != nil {
		return nil, clientAuthentication
	}
	if r.URL.RawQuery != "" {
		return nil, inQuery
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/x-www-form-urlencoded" || len(r.Header["Content-Type"]) != 1 || r.Header["Content-Encoding"] != nil {
		return nil, notForm
	}
	values, fault := s.readValues(w, r)
	if fault != nil {
		return nil, fault
	}
	for _, name := range once {
		if len(values[name]) > 1 {
			return nil, twice
		}
	}
	for _, name := range []string{"client_secret", "client_assertion", "client_assertion_type"} {
		if values.Get(name) != "" {
			return nil, clientSecret
		}
	}
	switch values.Get("grant_type") {
	case "":
		return nil, noGrantType
	case GrantType:
		return s.parse(values)
	default:
		return nil, otherGrantType
	}
}

func (s *Server) readValues(w http.ResponseWriter, r *http.Request) (url.Values, *fault) {
	if r.ContentLength > maxForm {
		return nil, tooLong
	}
	// Not every writer has deadlines; net/http's have.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(s.cfg.BodyTime))
	body, err := io.ReadAll(io.LimitReader(r.Body, maxForm+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, slow
	case err != nil:
		return nil, notForm
	case len(body) > maxForm:
		return nil, tooLong
	}
	_ = control.SetReadDeadline(time.Time{})
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, notForm
	}
	return values, nil
}

// parse reads the parameters of a token exchange. An empty one is as good as
// none (RFC 6749 section 3.2).
func (s *Server) parse(values url.Values) (*form, *fault) {
	f := &form{subject: subject{values.Get("subject_token"), values.Get("subject_token_type")}, clientID: values.Get("client_id")}
	if fault := f.subject.check(noSubject); fault != nil {
		return nil, fault
	}
	actor := subject{values.Get("actor_token"), values.Get("actor_token_type")}
	if actor != (subject{}) {
		if fault := actor.check(halfActor); fault != nil {
			return nil, fault
		}
		f.actor = &actor
	}
	switch f.wanted = values.Get("requested_token_type"); f.wanted {
	case "":
		f.wanted = typeAccessToken
	case typeAccessToken, typeJWT:
	default:
		return nil, otherTokenType
	}
	if len(f.clientID) > maxClientID || strings.ContainsFunc(f.clientID, func(c rune) bool { return c < ' ' || c > '~' }) {
		return nil, badClientID
	}
	if fault := f.setLifetime(values.Get("expires_in")); fault != nil {
		return nil, fault
	}
	var err error
	if f.scope, err = scope.Parse(values.Get("scope")); err != nil {
		return nil, badScope(err)
	}
	return f, f.setTarget(values["audience"], values.Get("resource"), s.cfg.URL)
}

// check judges the form of a token and its type.
func (t subject) check(missing *fault) *fault {
	switch {
	case t.token == "" || t.typ == "":
		return missing
	case !auth.IsBearerToken(t.token):
		return badToken
	}
	switch t.typ {
	case typeAccessToken:
		return nil
	case typeIDToken, typeJWT:
		if strings.Count(t.token, ".") == 2 {
			return nil
		}
	}
	return wrongType
}

func (f *form) setLifetime(text string) *fault {
	if text == "" {
		return nil
	}
	seconds, err := strconv.ParseUint(text, 10, 32)
	if err != nil || seconds == 0 {
		return badLifetime
	}
	f.lifetime = min(time.Duration(seconds)*time.Second, maxLifetime)
	return nil
}

// setTarget says for whom the new token is to be.
func (f *form) setTarget(audiences []string, resource, self string) *fault {
	for _, audience := range audiences {
		if audience == "" {
			continue
		}
		if len(f.audiences) == maxAudiences || len(audience) > maxAudience || strings.ContainsFunc(audience, func(c rune) bool { return c < ' ' || c > '~' }) {
			return badAudience
		}
		f.audiences = append(f.audiences, audience)
	}
	name, isAccount := strings.CutPrefix(resource, accountPrefix)
	switch {
	case isAccount:
		return f.setAccount(name)
	case resource != "" && resource != self:
		return otherResource
	}
	for _, audience := range f.audiences {
		if audience != self {
			return otherAudience
		}
	}
	return nil
}

// setAccount reads <namespace>:<name>: names that can stand in a path, and mean
// nothing else there.
func (f *form) setAccount(text string) *fault {
	namespace, name, found := strings.Cut(text, ":")
	switch {
	case !found || len(validation.IsDNS1123Label(namespace)) > 0 || len(validation.IsDNS1123Subdomain(name)) > 0:
		return badAccount
	case len(f.audiences) == 0:
		return noAudience
	case !f.scope.Unlimited():
		return accountScope
	case f.actor != nil:
		return accountActor
	case f.lifetime != 0 && f.lifetime < leastAccountLifetime:
		return shortAccount
	}
	f.account = &account{namespace, name}
	return nil
}

// leastAccountLifetime is kube-apiserver's for a TokenRequest (v1.37,
// pkg/apis/authentication/validation).
const leastAccountLifetime = 10 * time.Minute
