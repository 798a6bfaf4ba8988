package exchange

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// The JSON of a TokenRequest (k8s.io/api v0.37, authentication/v1), as far as it
// is used.
type (
	tokenRequest struct {
		APIVersion string             `json:"apiVersion"`
		Kind       string             `json:"kind"`
		Spec       tokenRequestSpec   `json:"spec"`
		Status     tokenRequestStatus `json:"status,omitzero"`
	}
	tokenRequestSpec struct {
		Audiences         []string `json:"audiences"`
		ExpirationSeconds *int64   `json:"expirationSeconds,omitempty"`
	}
	tokenRequestStatus struct {
		Token   string    `json:"token"`
		Expires time.Time `json:"expirationTimestamp"`
	}
)

// maxTokenRequest bounds the API server's answer.
const maxTokenRequest = 1 << 20

// accountToken has the API server make the token of a ServiceAccount. The request
// goes through the door as any other of its caller: his scope, the cluster's
// rules and the audit logs of both see it as his.
func (s *Server) accountToken(x *trade, r *http.Request, f *form) (*issued, *fault) {
	x.account = f.account.namespace + "/" + f.account.name
	ask := tokenRequest{APIVersion: "authentication.k8s.io/v1", Kind: "TokenRequest", Spec: tokenRequestSpec{Audiences: f.audiences}}
	if f.lifetime != 0 {
		seconds := int64(f.lifetime / time.Second)
		ask.Spec.ExpirationSeconds = &seconds
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return nil, internal
	}
	answer := s.call(r, "/api/v1/namespaces/"+f.account.namespace+"/serviceaccounts/"+f.account.name+"/token", f.subject.token, body)
	x.requestID = answer.header.Get("Audit-Id")
	switch answer.code {
	case http.StatusOK, http.StatusCreated:
	case http.StatusForbidden:
		return nil, mayNotHave
	case http.StatusNotFound:
		return nil, noAccount
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return nil, badTokenRequest
	case http.StatusUnauthorized:
		return nil, notAcceptedThere
	default:
		s.cfg.Log.Error("the API server made no token", "audit_id", x.id, "status", answer.code)
		return nil, unavailable
	}
	var made tokenRequest
	if err := json.Unmarshal(answer.body.Bytes(), &made); err != nil || made.Kind != "TokenRequest" || !auth.IsBearerToken(made.Status.Token) || made.Status.Expires.IsZero() {
		s.cfg.Log.Error("the API server's answer is no token", "audit_id", x.id)
		return nil, unavailable
	}
	return &issued{token: made.Status.Token, expires: made.Status.Expires, typ: f.wanted}, nil
}

// call makes a request through the door, as the holder of token.
func (s *Server) call(r *http.Request, path, token string, body []byte) (answer *answer) {
	// The answer of another server must not end this request's connection.
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	defer context.AfterFunc(r.Context(), cancel)()
	answer = newAnswer()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, path, io.NopCloser(bytes.NewReader(body)))
	if err != nil {
		answer.code = http.StatusInternalServerError
		return answer
	}
	request.ContentLength, request.RemoteAddr = int64(len(body)), r.RemoteAddr
	request.RequestURI = path // as a server reads it: the door compares the two
	request.Header = http.Header{
		"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"}, "Accept": {"application/json"},
	}
	for _, name := range []string{"X-Forwarded-For", "User-Agent", "Traceparent", "Tracestate"} {
		if values := r.Header[name]; values != nil {
			request.Header[name] = values
		}
	}
	defer func() {
		// The door breaks off an answer that it cannot give whole.
		if fault := recover(); fault != nil {
			if err, ok := fault.(error); !ok || err != http.ErrAbortHandler { //nolint:errorlint // as net/http compares it
				panic(fault)
			}
			answer.code = http.StatusBadGateway
		}
	}()
	s.cfg.Door.ServeHTTP(answer, request)
	return answer
}

// callTime is how long a TokenRequest may take.
const callTime = 30 * time.Second

// answer is an http.ResponseWriter that keeps what it gets.
type answer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func newAnswer() *answer { return &answer{header: http.Header{}} }

// Header is that of the answer.
func (a *answer) Header() http.Header { return a.header }

// Flush has nothing to do.
func (a *answer) Flush() {}

// WriteHeader keeps the status.
func (a *answer) WriteHeader(code int) {
	if a.code == 0 && code >= 200 {
		a.code = code
	}
}

// Write keeps the body, up to a bound.
func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	if a.body.Len()+len(p) > maxTokenRequest {
		return 0, fmt.Errorf("the answer has more than %d bytes", maxTokenRequest)
	}
	return a.body.Write(p)
}
