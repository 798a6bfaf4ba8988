package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// maxReview is the longest answer to a review that is read.
const maxReview = 1 << 20

// AsOurselves returns an http.RoundTripper for requests that gatehouse makes on
// its own account: it takes the path and query of a request, and adds the
// address of the Target in use and gatehouse's credential. It follows no
// redirect.
func (l *Live) AsOurselves() http.RoundTripper { return ourselves{l} }

type ourselves struct{ live *Live }

func (o ourselves) RoundTrip(r *http.Request) (*http.Response, error) {
	return o.live.Target().roundTrip(r)
}

func (t *Target) roundTrip(r *http.Request) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.URL = &url.URL{
		Scheme: t.URL.Scheme, Host: t.URL.Host, RawQuery: r.URL.RawQuery,
		Path: strings.TrimSuffix(t.URL.Path, "/") + r.URL.Path,
	}
	out.Host = ""
	if authorization := t.Authorization(); authorization != "" {
		out.Header.Set("Authorization", authorization)
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
	const body = `{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`
	if err := t.create(ctx, "/apis/authentication.k8s.io/v1/selfsubjectreviews", body, &review); err != nil {
		return "", fmt.Errorf("who gatehouse is: %w", err)
	}
	if review.Status.UserInfo.Username == "" {
		return "", errors.New("who gatehouse is: the API server names no user")
	}
	return review.Status.UserInfo.Username, nil
}

// create posts a JSON object, and reads the one that is answered.
func (t *Target) create(ctx context.Context, path, body string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, path, bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := t.roundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("the API server answers %d", resp.StatusCode)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxReview)).Decode(answer); err != nil {
		return fmt.Errorf("the API server's answer is not the JSON that was asked for: %w", err)
	}
	return nil
}
