package exchange

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/scope"
)

// maxLifetime bounds what expires_in may say: what is more is no lifetime.
const maxLifetime = 366 * 24 * time.Hour

// maxShown is how much of a text of the exchange is shown, in bytes.
const maxShown = 500

// answer is that of RFC 8693 section 2.2.1.
type answer struct {
	Token     string `json:"access_token"`
	Issued    string `json:"issued_token_type"`
	Type      string `json:"token_type"`
	ExpiresIn int64  `json:"expires_in"`
	Scope     string `json:"scope"`
}

// parseAnswer reads a successful answer to what was asked at a time.
func parseAnswer(got *received, asked time.Time) (*Issued, error) {
	var a answer
	if err := got.object(&a); err != nil {
		return nil, err
	}
	switch {
	case !strings.EqualFold(a.Type, "Bearer"):
		return nil, errors.New("its answer has a token_type that is not Bearer")
	case a.Issued != tokenTypePrefix+accessTokenType && a.Issued != tokenTypePrefix+jwtType:
		return nil, errors.New("its answer has an issued_token_type that was not asked for")
	case !auth.IsBearerToken(a.Token):
		return nil, errors.New("its answer has an access_token that is none")
	case a.ExpiresIn <= 0 || a.ExpiresIn > int64(maxLifetime/time.Second):
		return nil, errors.New("its answer has an expires_in that is no lifetime")
	case !isScope(a.Scope):
		return nil, errors.New("its answer has a scope that is none")
	}
	return &Issued{
		Token: a.Token, Type: a.Issued, Scope: a.Scope,
		Obtained: asked, Expires: asked.Add(time.Duration(a.ExpiresIn) * time.Second),
	}, nil
}

// narrowed is an error if an exchange gave less restrictions than it was asked
// for. Where it says nothing of the scope, it is the one that was asked for (RFC
// 8693 section 2.2.1); a word that is not known here is the exchange's to judge.
func narrowed(asked, given string) error {
	want, err := scope.Parse(asked)
	if asked == "" || given == "" || err != nil {
		return nil
	}
	got, err := scope.Parse(given)
	if err == nil {
		var both scope.Scope
		if both, err = got.And(want); err == nil && both.Equal(got) {
			return nil
		}
	}
	return errors.New("its answer has another scope than the one that was asked for: the token may be good for more, and is not used")
}

// isScope reports whether s is empty or a scope (RFC 6749 section 3.3).
func isScope(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' || c == '"' || c == '\\' })
}

// Failure is a refusal of the exchange (RFC 6749 section 5.2).
type Failure struct {
	// Status is the code of the answer.
	Status int
	// Code is error, such as invalid_scope, or "" if the answer has none.
	Code string
	// Description is error_description, as it may be shown on a terminal, or "".
	Description string
	// RetryAfter is the number of seconds of that header, or 0.
	RetryAfter int
}

// Error says what the exchange said.
func (f *Failure) Error() string {
	switch {
	case f.Code == "" && f.Description == "":
		return fmt.Sprintf("it answered %d, and not in the form of a token endpoint", f.Status)
	case f.Code == "":
		return fmt.Sprintf("it answered %d: %s", f.Status, f.Description)
	case f.Description == "":
		return fmt.Sprintf("it answered %d %s", f.Status, f.Code)
	}
	return fmt.Sprintf("it answered %d %s: %s", f.Status, f.Code, f.Description)
}

// errorCode has the form of the codes that are registered for OAuth.
var errorCode = regexp.MustCompile(`^[a-z][a-z_]{0,39}$`)

// failureOf reads a refusal. secrets are the tokens that were sent: whatever of
// them the answer repeats is not shown.
func failureOf(got *received, secrets ...string) *Failure {
	f := &Failure{Status: got.status}
	var a struct {
		Code        string `json:"error"`
		Description string `json:"error_description"`
	}
	// Beside RFC 6749, as for a path that there is not, an answer has no code.
	if got.object(&a) != nil || a.Code != "" && !errorCode.MatchString(a.Code) || repeats(a.Code, secrets) {
		return f
	}
	f.Code = a.Code
	switch {
	case a.Description == "":
	case repeats(a.Description, secrets):
		f.Description = "(not shown, as it repeats the token)"
	default:
		f.Description = printable(a.Description)
	}
	if got.status == http.StatusTooManyRequests || got.status == http.StatusServiceUnavailable {
		if seconds, err := strconv.Atoi(got.header.Get("Retry-After")); err == nil && seconds > 0 && seconds <= 24*60*60 {
			f.RetryAfter = seconds
		}
	}
	return f
}

// repeats reports whether text holds a secret, or a part of one that is long
// enough to be worth something. The parts of a JWT are looked for by themselves.
func repeats(text string, secrets []string) bool {
	const long = 16
	for _, secret := range secrets {
		if secret != "" && strings.Contains(text, secret) {
			return true
		}
		for part := range strings.SplitSeq(secret, ".") {
			for start := 0; start+long <= len(part); start += long {
				if strings.Contains(text, part[start:start+long]) {
					return true
				}
			}
		}
	}
	return false
}

// printable returns text as it may be put on a terminal: at most maxShown bytes,
// and quoted if it holds anything that cannot be seen.
func printable(text string) string {
	if len(text) > maxShown {
		text = strings.ToValidUTF8(text[:maxShown], "") + "…"
	}
	if strings.ContainsFunc(text, func(c rune) bool { return !strconv.IsPrint(c) || c == '\uFFFD' }) {
		return strconv.Quote(text)
	}
	return text
}
