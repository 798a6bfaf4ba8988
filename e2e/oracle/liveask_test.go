package oracle_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// livePeer is a server that is asked who the caller is.
type livePeer struct {
	url    string
	tls    *tls.Config
	client *http.Client
}

// liveAnswer is what a server said of a credential.
type liveAnswer struct {
	answer
	code int  // 0 if there was none: the handshake failed
	own  bool // gatehouse's own refusal, not the API server's
}

// newClient presents what h holds, or nothing, whatever CAs the server names.
func (p livePeer) newClient(h *holder) *http.Client {
	config := p.tls.Clone()
	if h != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert := h.tls()
			return &cert, nil
		}
	}
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: config, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		ForceAttemptHTTP2: h == nil, DisableKeepAlives: h != nil,
	}}
}

// bearer asks with a token.
func bearer(t *testing.T, token string) func(livePeer) (liveAnswer, error) {
	return credentials(t, nil, "Bearer "+token)
}

// credentials asks with a certificate, or none, and Authorization headers. A
// handshake that the server breaks off is an answer.
func credentials(t *testing.T, h *holder, authorization ...string) func(livePeer) (liveAnswer, error) {
	return func(p livePeer) (liveAnswer, error) {
		client := p.client
		if h != nil {
			client = p.newClient(h)
			defer client.CloseIdleConnections()
		}
		a, err := p.whoAmI(t.Context(), client, authorization)
		if alert, ok := errors.AsType[tls.AlertError](err); ok {
			return liveAnswer{answer: answer{err: alert}, own: true}, nil
		}
		if err != nil && strings.Contains(err.Error(), "remote error: tls:") {
			return liveAnswer{answer: answer{err: err}, own: true}, nil
		}
		return a, err
	}
}

// whoAmI asks for a SelfSubjectReview.
func (p livePeer) whoAmI(ctx context.Context, client *http.Client, authorization []string) (liveAnswer, error) {
	const review = `{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/apis/authentication.k8s.io/v1/selfsubjectreviews", strings.NewReader(review))
	if err != nil {
		return liveAnswer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	if len(authorization) > 0 {
		req.Header["Authorization"] = authorization
	}
	resp, err := client.Do(req)
	if err != nil {
		return liveAnswer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return liveAnswer{}, err
	}
	return liveAnswerOf(resp, body)
}

func liveAnswerOf(resp *http.Response, body []byte) (liveAnswer, error) {
	switch resp.StatusCode {
	case http.StatusCreated:
	case http.StatusUnauthorized, http.StatusForbidden:
		own := strings.HasPrefix(resp.Header.Get("Warning"), "299 ")
		if resp.StatusCode == http.StatusForbidden && !own {
			return liveAnswer{}, fmt.Errorf("%s, which says nothing of the credential: %s", resp.Status, body)
		}
		err := fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(body))
		return liveAnswer{answer{err: err}, resp.StatusCode, own}, nil
	default:
		return liveAnswer{}, fmt.Errorf("%s: %s", resp.Status, body)
	}
	var review authenticationv1.SelfSubjectReview
	if err := json.Unmarshal(body, &review); err != nil {
		return liveAnswer{}, err
	}
	info := review.Status.UserInfo
	u := auth.User{Name: info.Username, UID: info.UID, Groups: info.Groups, Extra: map[string][]string{}}
	for key, values := range info.Extra {
		u.Extra[key] = values
	}
	return liveAnswer{answer: answer{user: normal(u)}, code: resp.StatusCode}, nil
}
