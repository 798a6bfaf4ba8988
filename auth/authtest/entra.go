package authtest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Entra stands in for one tenant of Microsoft Entra and for Microsoft Graph, on
// one origin. It copies their wire form from Microsoft's documents: the client
// credentials flow (entra/identity-platform/v2-oauth2-client-creds-grant-flow),
// getMemberGroups (graph/api/directoryobject-getmembergroups) and their errors
// (graph/errors). It was never compared with the real ones.
type Entra struct {
	*Issuer

	Origin   string // in the place of login.microsoftonline.com and of graph.microsoft.com
	TenantID string
	ClientID string
	Scope    string // that a token may be asked for; set it before anybody asks

	// TokenRequests, GroupRequests and OtherRequests count what was asked of
	// it, besides the issuer's documents.
	TokenRequests, GroupRequests, OtherRequests atomic.Int64

	mu     sync.Mutex
	secret string
	token  string              // the access token that Graph accepts
	groups map[string][]string // by the id of a person
	graph  http.HandlerFunc    // answers in Graph's place
}

// The tenant and the application of [NewEntra].
const (
	EntraTenantID = "7d4a6d4e-5a0b-4b5e-9a3c-1f2e3d4c5b6a"
	EntraClientID = "0f8fad5b-d9cb-469f-a165-70867728950e"
	EntraSecret   = "client-secret-of-gatehouse~4821"
)

// NewEntra starts a tenant without people on a free port of 127.0.0.1.
func NewEntra(ca *CA) (*Entra, error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for Entra: %w", err)
	}
	e := &Entra{
		Origin: "https://" + listener.Addr().String(), TenantID: EntraTenantID, ClientID: EntraClientID,
		secret: EntraSecret, groups: map[string][]string{},
	}
	e.Scope = e.Origin + "/.default"
	mux := http.NewServeMux()
	mux.HandleFunc("/{tenant}/oauth2/v2.0/token", e.serveToken)
	mux.HandleFunc("/v1.0/users/{id}/getMemberGroups", e.serveGroups)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		e.OtherRequests.Add(1)
		http.NotFound(w, r)
	})
	e.Issuer, err = startIssuer(ca, listener, "/"+e.TenantID+"/v2.0", mux)
	return e, err
}

// SetGroups makes a person a member of these groups.
func (e *Entra) SetGroups(person string, groups ...string) {
	e.change(func() { e.groups[person] = groups })
}

// SetSecret changes the secret that is accepted.
func (e *Entra) SetSecret(secret string) { e.change(func() { e.secret = secret }) }

// WithdrawTokens makes Graph accept no access token that was given out.
func (e *Entra) WithdrawTokens() { e.change(func() { e.token = "" }) }

// ServeGraph lets a test answer for Graph; nil gives the truth again.
func (e *Entra) ServeGraph(h http.HandlerFunc) { e.change(func() { e.graph = h }) }

func (e *Entra) change(do func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	do()
}

// OverageClaims returns the claims by which Entra names a person who is in too
// many groups.
func (e *Entra) OverageClaims(person string, more Claims) Claims {
	claims := Claims{
		"ver": "2.0", "tid": e.TenantID, "oid": person,
		"_claim_names":   map[string]any{"groups": "src1"},
		"_claim_sources": map[string]any{"src1": map[string]any{"endpoint": e.Origin + "/graph.windows.net/" + e.TenantID + "/users/" + person + "/getMemberObjects"}},
	}
	maps.Copy(claims, more)
	return claims
}

func (e *Entra) serveToken(w http.ResponseWriter, r *http.Request) {
	n := e.TokenRequests.Add(1)
	e.mu.Lock()
	defer e.mu.Unlock()
	fail := func(code int, name string, number int, text string) {
		writeStatus(w, code, map[string]any{
			"error":             name,
			"error_description": fmt.Sprintf("AADSTS%d: %s Trace ID: 255d1aef-8c98-452f-ac51-23d051240864 Correlation ID: fb3d2015-bc17-4bb9-bb85-30c5cf1aaaa7 Timestamp: %s", number, text, time.Now().UTC().Format("2006-01-02 15:04:05Z")),
			"error_codes":       []int{number}, "timestamp": time.Now().UTC().Format("2006-01-02 15:04:05Z"),
			"trace_id": "255d1aef-8c98-452f-ac51-23d051240864", "correlation_id": "fb3d2015-bc17-4bb9-bb85-30c5cf1aaaa7",
		})
	}
	switch {
	case r.Method != http.MethodPost || r.ParseForm() != nil || r.URL.RawQuery != "":
		fail(http.StatusBadRequest, "invalid_request", 900144, "The request must be a POST of a form.")
	case r.PathValue("tenant") != e.TenantID:
		fail(http.StatusBadRequest, "invalid_request", 90002, "Tenant not found.")
	case r.PostForm.Get("grant_type") != "client_credentials":
		fail(http.StatusBadRequest, "unsupported_grant_type", 70003, "The grant type is not supported.")
	case r.PostForm.Get("client_id") != e.ClientID:
		fail(http.StatusBadRequest, "unauthorized_client", 700016, "Application not found in the directory.")
	case r.PostForm.Get("client_secret") != e.secret:
		fail(http.StatusUnauthorized, "invalid_client", 7000215, "Invalid client secret provided: '"+r.PostForm.Get("client_secret")+"'.")
	case r.PostForm.Get("scope") != e.Scope:
		fail(http.StatusBadRequest, "invalid_scope", 70011, "The provided value for the input parameter 'scope' isn't valid.")
	default:
		e.token = "graph-access-token-" + strconv.FormatInt(n, 10)
		writeJSON(w, map[string]any{"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": e.token})
	}
}

func (e *Entra) serveGroups(w http.ResponseWriter, r *http.Request) {
	e.GroupRequests.Add(1)
	e.mu.Lock()
	graph, token := e.graph, e.token
	groups, known := e.groups[r.PathValue("id")]
	groups = slices.Clone(groups)
	e.mu.Unlock()
	if graph != nil {
		graph(w, r)
		return
	}
	var body struct {
		SecurityEnabledOnly *bool `json:"securityEnabledOnly"`
	}
	switch {
	case r.Method != http.MethodPost:
		GraphError(w, http.StatusMethodNotAllowed, "Request_BadRequest", "Specified HTTP method is not allowed for the request target.")
	case token == "" || r.Header.Get("Authorization") != "Bearer "+token:
		GraphError(w, http.StatusUnauthorized, "InvalidAuthenticationToken", "Access token has expired or is not yet valid.")
	case r.Header.Get("Content-Type") != "application/json" || json.NewDecoder(r.Body).Decode(&body) != nil || body.SecurityEnabledOnly == nil:
		GraphError(w, http.StatusBadRequest, "Request_BadRequest", "A value is required for parameter 'securityEnabledOnly'.")
	case !known:
		GraphError(w, http.StatusNotFound, "Request_ResourceNotFound", "Resource '"+r.PathValue("id")+"' does not exist or one of its queried reference-property objects are not present.")
	case len(groups) > 11000:
		GraphError(w, http.StatusBadRequest, "Directory_ResultSizeLimitExceeded", "The result size limit was exceeded.")
	default:
		writeJSON(w, map[string]any{"@odata.context": e.Origin + "/v1.0/$metadata#Collection(Edm.String)", "value": append([]string{}, groups...)})
	}
}

// GraphError answers as Graph does when something fails.
func GraphError(w http.ResponseWriter, status int, code, message string) {
	writeStatus(w, status, map[string]any{"error": map[string]any{
		"code": code, "message": message,
		"innerError": map[string]any{"date": time.Now().UTC().Format("2006-01-02T15:04:05"), "request-id": "b7d0f1c2-3e4f-4a5b-8c6d-7e8f9a0b1c2d", "client-request-id": "b7d0f1c2-3e4f-4a5b-8c6d-7e8f9a0b1c2d"},
	}})
}

func writeStatus(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A failed write means that the asker has gone, which is its affair.
	_ = json.NewEncoder(w).Encode(v)
}
