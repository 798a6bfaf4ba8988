package proxy

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Refused says why a token was not accepted, as the caller hears it.
type Refused struct {
	Code       int    // the HTTP status that a request would have got
	Message    string // a sentence of the closed set
	RetryAfter int    // seconds; 0 if there is no use in trying again
}

func (r *Refused) Error() string { return r.Message }

// SignIn returns whom token names, judged as if it had come with a request of
// client, an address: by the same authenticator and under the same limits. Its
// error is a [*Refused].
func (p *Proxy) SignIn(r *http.Request, client, token string) (*auth.Identity, error) {
	asked := (&http.Request{
		Method: http.MethodGet, URL: &url.URL{Path: "/"}, Header: http.Header{"Authorization": {"Bearer " + token}},
	}).WithContext(r.Context())
	identity, err := p.signIn(&exchange{client: client, start: p.cfg.Now()}, asked)
	if err == nil {
		return identity, nil
	}
	if why, ok := errors.AsType[*rejection](err); ok {
		p.metrics.rejected.WithLabelValues(why.label).Inc()
		return nil, refusedBy(why.answer)
	}
	refusal := refusalOf(err)
	p.metrics.refused(refusal)
	return nil, refusedBy(refusalAnswer(refusal, p.cfg.Now()))
}

func refusedBy(a answer) *Refused {
	refused := &Refused{Code: a.code, Message: string(a.message)}
	if a.again == always {
		refused.RetryAfter = retryAfter
	}
	return refused
}

// Client returns the address that a request comes from, as the log has it.
func (p *Proxy) Client(r *http.Request) string {
	return p.cfg.Proxies.Caller(r.RemoteAddr, r.Header["X-Forwarded-For"])
}
