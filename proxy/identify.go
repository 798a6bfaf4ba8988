package proxy

import (
	"errors"
	"net/http"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Identify returns whom the credential of r names, as a [Proxy] decides it. No
// identity leaves it that the name policy has not passed. Its error is always
// an [*auth.Refusal].
func Identify(a auth.Authenticator, names auth.NamePolicy, r *http.Request) (*auth.Identity, error) {
	identity, err := a.Authenticate(r)
	switch {
	case errors.Is(err, auth.ErrNotMine):
		return nil, auth.Refuse(auth.KindNone, auth.NoCredential, "the request carries no credential")
	case err != nil:
		return nil, refusalOf(err)
	case identity == nil:
		return nil, auth.Refuse(auth.KindUnknown, auth.InternalAuthFailed, "an authenticator returned neither identity nor error")
	}
	if err := names.Check(identity.Kind, &identity.User); err != nil {
		return nil, err
	}
	return identity, nil
}

// Sentence returns what the caller of a refused request is told, and the code
// of the answer.
func Sentence(refusal *auth.Refusal, now time.Time) (code int, sentence string) {
	a := refusalAnswer(refusal, now)
	return a.code, string(a.message)
}

// Age writes d in its largest unit, as the sentences do: "5 minutes".
func Age(d time.Duration) string { return roundDuration(d) }
