package tokenreview

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	josejson "github.com/go-jose/go-jose/v4/json"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Path is where a TokenReview is created, below the API server's URL.
const Path = "/apis/authentication.k8s.io/v1/tokenreviews"

const (
	apiVersion = "authentication.k8s.io/v1"
	kind       = "TokenReview"
	maxBody    = 1 << 20
)

// HTTPReviewer asks the API server over HTTP. Its zero value is not ready.
type HTTPReviewer struct{ transport http.RoundTripper }

// NewHTTPReviewer returns a [Reviewer] that sends its requests by transport,
// which must add the API server's address, as the URL holds [Path] alone, and
// gatehouse's own credential. As the contract of http.RoundTripper says, it
// must follow no redirect: the body of a request holds the caller's token.
func NewHTTPReviewer(transport http.RoundTripper) *HTTPReviewer {
	return &HTTPReviewer{transport: transport}
}

// The JSON of a TokenReview (k8s.io/api v0.37, authentication/v1), as far as it
// is used.
type (
	requestBody struct {
		APIVersion string      `json:"apiVersion"`
		Kind       string      `json:"kind"`
		Spec       requestSpec `json:"spec"`
	}
	requestSpec struct {
		Token     string   `json:"token"`
		Audiences []string `json:"audiences,omitempty"`
	}
	responseBody struct {
		APIVersion string         `json:"apiVersion"`
		Kind       string         `json:"kind"`
		Status     responseStatus `json:"status"`
	}
	responseStatus struct {
		Authenticated bool         `json:"authenticated"`
		User          responseUser `json:"user"`
		Audiences     []string     `json:"audiences"`
		Error         string       `json:"error"`
	}
	responseUser struct {
		Username string              `json:"username"`
		UID      string              `json:"uid"`
		Groups   []string            `json:"groups"`
		Extra    map[string][]string `json:"extra"`
	}
)

// Review creates one TokenReview. It is an error, which quotes neither token nor
// answer, if the API server cannot be reached, refuses gatehouse itself, or
// answers anything but one bounded TokenReview. A 401 or 403 speaks of
// gatehouse's own account, never of the token.
func (h *HTTPReviewer) Review(ctx context.Context, token string, audiences []string) (Status, error) {
	if token == "" {
		return Status{}, errors.New("token review: there is no token")
	}
	body, err := json.Marshal(requestBody{
		APIVersion: apiVersion, Kind: kind, Spec: requestSpec{Token: token, Audiences: audiences},
	})
	if err != nil {
		return Status{}, errors.New("token review: the request cannot be written")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, Path, bytes.NewReader(body))
	if err != nil {
		return Status{}, fmt.Errorf("token review: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	// A review changes nothing, so it may be sent again where the connection
	// that was kept turns out to be closed. An empty value is not sent.
	req.Header["Idempotency-Key"] = []string{}
	resp, err := h.transport.RoundTrip(req)
	if err != nil {
		return Status{}, fmt.Errorf("token review: %w", err)
	}
	defer resp.Body.Close()
	answer, err := readAnswer(resp)
	if err != nil {
		return Status{}, fmt.Errorf("token review: %w", err)
	}
	return parse(answer)
}

func readAnswer(resp *http.Response) ([]byte, error) {
	switch resp.StatusCode {
	case http.StatusOK, http.StatusCreated:
	case http.StatusUnauthorized:
		return nil, errors.New("the API server does not accept gatehouse's own credential (401)")
	case http.StatusForbidden:
		return nil, errors.New("gatehouse's own account may not create tokenreviews.authentication.k8s.io (403)")
	default:
		return nil, fmt.Errorf("the API server answers with status %d", resp.StatusCode)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(answer) > maxBody {
		return nil, fmt.Errorf("the answer has more than %d bytes", maxBody)
	}
	return answer, nil
}

// parse reads a TokenReview. Names are case-sensitive and may not repeat, and
// nothing may follow: two readers must not see two verdicts in one answer.
func parse(answer []byte) (Status, error) {
	var object map[string]any
	if err := josejson.Unmarshal(answer, &object); err != nil || object == nil {
		return Status{}, errors.New("token review: the answer is not a JSON object with unique names")
	}
	var review responseBody
	if err := josejson.Unmarshal(answer, &review); err != nil {
		return Status{}, errors.New("token review: the answer has a field of another type")
	}
	if review.APIVersion != apiVersion || review.Kind != kind {
		return Status{}, errors.New("token review: the answer is no TokenReview of " + apiVersion)
	}
	user := review.Status.User
	return Status{
		Authenticated: review.Status.Authenticated,
		User:          auth.User{Name: user.Username, UID: user.UID, Groups: user.Groups, Extra: user.Extra},
		Audiences:     review.Status.Audiences,
		Error:         review.Status.Error,
	}, nil
}
