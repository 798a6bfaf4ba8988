package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/kube-gatehouse/gatehouse/proxy/impersonate"
)

// maxReview is the longest answer to a review that is read.
const maxReview = 1 << 20

// AsOurselves returns an http.RoundTripper for requests that gatehouse makes on
// its own account: it takes the path and query of a request, and adds the
// address of the Target in use and gatehouse's credential. It follows no
// redirect. Its requests bear l.ID as those that are forwarded do: at an API
// server that is gatehouse itself, asking about a token would ask about a token.
func (l *Live) AsOurselves() http.RoundTripper { return ourselves{l} }

type ourselves struct{ live *Live }

func (o ourselves) RoundTrip(r *http.Request) (*http.Response, error) {
	return o.live.Target().roundTrip(r, o.live.ID)
}

// roundTrip sends r with our credential, and with our id unless that is empty.
func (t *Target) roundTrip(r *http.Request, id string) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.URL = &url.URL{
		Scheme: t.URL.Scheme, Host: t.URL.Host, RawQuery: r.URL.RawQuery,
		Path: strings.TrimSuffix(t.URL.Path, "/") + r.URL.Path,
	}
	out.Host = ""
	if authorization := t.Authorization(); authorization != "" {
		out.Header.Set("Authorization", authorization)
	}
	if id != "" {
		out.Header[impersonate.HopHeader] = []string{id}
	}
	return t.Requests.RoundTrip(out)
}

// WhoAmI returns the user name that the API server has for gatehouse, by
// SelfSubjectReview (authentication.k8s.io/v1).
func (t *Target) WhoAmI(ctx context.Context) (string, error) {
	var review struct {
		Status struct {
			UserInfo struct {
				Username string `json:"username"`
			} `json:"userInfo"`
		} `json:"status"`
	}
	in := map[string]string{"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
	if err := t.call(ctx, http.MethodPost, "/apis/authentication.k8s.io/v1/selfsubjectreviews", in, &review); err != nil {
		return "", fmt.Errorf("who gatehouse is: %w", err)
	}
	if review.Status.UserInfo.Username == "" {
		return "", errors.New("who gatehouse is: the API server names no user")
	}
	return review.Status.UserInfo.Username, nil
}
