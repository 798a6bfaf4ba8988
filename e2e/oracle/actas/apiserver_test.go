package actas_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/filters/impersonation"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/e2e/kubeconfig"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/proxy"
	"github.com/kube-gatehouse/gatehouse/proxy/impersonate"
	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

const (
	proxyAccount  = "system:serviceaccount:gatehouse:gatehouse"
	accountsToken = "the-token-of-gatehouse"
)

// lottery is an authorizer that draws its verdicts: of one question, whole, always
// the same one. So whatever differs between the questions of kube-apiserver and
// those of gatehouse shows as another verdict sooner or later. gatehouse's own
// account may do everything.
type lottery struct{ seed, percent uint64 }

func (l lottery) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	u := a.GetUser()
	if u.GetName() == proxyAccount {
		return authorizer.DecisionAllow, "", nil
	}
	fieldSelector, fieldFault := a.GetFieldSelector()
	labelSelector, labelFault := a.GetLabelSelector()
	question := []any{l.seed, u.GetName(), u.GetUID(), u.GetGroups(), u.GetExtra(), a.GetVerb(), a.IsResourceRequest(),
		fieldSelector, fmt.Sprint(labelSelector), fieldFault != nil, labelFault != nil}
	if a.IsResourceRequest() {
		version := a.GetAPIVersion()
		if version == "" {
			version = "*" // as an access review without a version says
		}
		question = append(question, a.GetAPIGroup(), version, a.GetResource(), a.GetSubresource(), a.GetNamespace(), a.GetName())
	} else {
		question = append(question, a.GetPath())
	}
	text, err := json.Marshal(question)
	if err != nil {
		return authorizer.DecisionDeny, "", err
	}
	h := fnv.New64a()
	_, _ = h.Write(text)
	if h.Sum64()%100 < l.percent {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}

// caller is who presents a token. The token is its place in the list.
type caller struct {
	kind auth.Kind
	user auth.User
}

func callerOf(token string, callers []caller) *caller {
	for i := range callers {
		if token == fmt.Sprintf("caller-%d", i) {
			return &callers[i]
		}
	}
	return nil
}

// callerTokens is gatehouse's authenticator.
type callerTokens []caller

func (c callerTokens) AuthenticateToken(_ context.Context, token string) (*auth.Identity, error) {
	if one := callerOf(token, c); one != nil {
		return &auth.Identity{Kind: one.kind, User: one.user}, nil
	}
	return nil, auth.ErrNotMine
}

// apiServer is kube-apiserver's own filters, with an authorizer, behind which the
// user who is served is told.
type apiServer struct {
	callers  []caller
	rights   authorizer.UnconditionalAuthorizer
	requests *request.RequestInfoFactory
	filter   http.Handler
}

func newAPIServer(callers []caller, rights authorizer.UnconditionalAuthorizer) *apiServer {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	codecs := serializer.NewCodecFactory(scheme)
	served := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, _ := request.UserFrom(r.Context())
		_ = json.NewEncoder(w).Encode(auth.User{Name: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups(), Extra: u.GetExtra()})
	})
	return &apiServer{
		callers: callers, rights: rights,
		requests: &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")},
		filter:   impersonation.WithConstrainedImpersonation(served, rights, codecs),
	}
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	own := r.Header.Get("Authorization") == "Bearer "+accountsToken
	switch {
	case own && r.URL.Path == "/version" && r.Header.Get("Impersonate-User") == "":
		_, _ = io.WriteString(w, `{"major":"1","minor":"37","gitVersion":"v1.37.2"}`)
	case own && strings.HasSuffix(r.URL.Path, "/subjectaccessreviews") && r.Header.Get("Impersonate-User") == "":
		s.review(w, r)
	default:
		s.serve(w, r, own)
	}
}

func (s *apiServer) serve(w http.ResponseWriter, r *http.Request, own bool) {
	var who user.Info = &user.DefaultInfo{Name: proxyAccount}
	if !own {
		one := callerOf(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), s.callers)
		if one == nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		who = &user.DefaultInfo{Name: one.user.Name, UID: one.user.UID, Groups: one.user.Groups, Extra: one.user.Extra}
	}
	info, err := s.requests.NewRequestInfo(r)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError) // as WithRequestInfo
		return
	}
	adder := group.NewAuthenticatedGroupAdder(authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) {
		return &authenticator.Response{User: who}, true, nil
	}))
	response, _, err := adder.AuthenticateRequest(r)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	s.filter.ServeHTTP(w, r.WithContext(request.WithUser(request.WithRequestInfo(r.Context(), info), response.User)))
}

// review answers a SubjectAccessReview as kube-apiserver does
// (pkg/registry/authorization/util, v1.37).
func (s *apiServer) review(w http.ResponseWriter, r *http.Request) {
	var object authorizationv1.SubjectAccessReview
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&object); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	who := &user.DefaultInfo{Name: object.Spec.User, UID: object.Spec.UID, Groups: object.Spec.Groups, Extra: map[string][]string{}}
	for key, values := range object.Spec.Extra {
		who.Extra[key] = values
	}
	if len(who.Extra) == 0 {
		who.Extra = nil
	}
	a := authorizer.AttributesRecord{User: who}
	if n := object.Spec.NonResourceAttributes; n != nil {
		a.Verb, a.Path = n.Verb, n.Path
	} else {
		in := object.Spec.ResourceAttributes
		a = authorizer.AttributesRecord{User: who, ResourceRequest: true, Verb: in.Verb, Namespace: in.Namespace, APIGroup: in.Group,
			APIVersion: in.Version, Resource: in.Resource, Subresource: in.Subresource, Name: in.Name}
		if in.FieldSelector != nil {
			selector, err := fields.ParseSelector(in.FieldSelector.RawSelector)
			if a.FieldSelectorParsingErr = err; err == nil && len(selector.Requirements()) > 0 {
				a.FieldSelectorRequirements = selector.Requirements()
			}
		}
		if in.LabelSelector != nil {
			selector, err := labels.Parse(in.LabelSelector.RawSelector)
			if a.LabelSelectorParsingErr = err; err == nil {
				if requirements, _ := selector.Requirements(); len(requirements) > 0 {
					a.LabelSelectorRequirements = requirements
				}
			}
		}
	}
	decision, _, _ := s.rights.Authorize(r.Context(), a)
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(authorizationv1.SubjectAccessReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SubjectAccessReview"},
		Status:   authorizationv1.SubjectAccessReviewStatus{Allowed: decision == authorizer.DecisionAllow},
	})
}

// handlerInUse is an http.Handler that a test changes.
type handlerInUse struct{ atomic.Pointer[http.Handler] }

func (h *handlerInUse) ServeHTTP(w http.ResponseWriter, r *http.Request) { (*h.Load()).ServeHTTP(w, r) }

// actPair is an API server, and gatehouse in front of it.
type actPair struct {
	api, gate       handlerInUse
	direct, through *httptest.Server
	live            upstream.Live
	callers         []caller
}

func newActPair(t *testing.T, callers []caller) *actPair {
	t.Helper()
	p := &actPair{callers: callers}
	start := func(h http.Handler) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		s.EnableHTTP2 = true
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	p.direct, p.through = start(&p.api), start(&p.gate)
	file, ca := filepath.Join(t.TempDir(), "kubeconfig"), filepath.Join(t.TempDir(), "ca.crt")
	if err := pki.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.direct.Certificate().Raw})); err != nil {
		t.Fatal(err)
	}
	config := kubeconfig.File{Cluster: "c", Server: p.direct.URL, CAFile: ca, Users: []kubeconfig.User{{Name: "u", Token: accountsToken}}}
	if err := config.Write(file); err != nil {
		t.Fatal(err)
	}
	target, err := upstream.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(target.Close)
	p.live.Swap(target)
	return p
}

// begin makes both forget what they know, and gives everybody other rights.
func (p *actPair) begin(t *testing.T, rights lottery) {
	t.Helper()
	var api http.Handler = newAPIServer(p.callers, rights)
	p.api.Store(&api)
	gate, err := proxy.New(proxy.Config{
		Target: p.live.Target, Authenticator: auth.Bearer(callerTokens(p.callers)), Self: func() string { return proxyAccount },
		Names:   auth.NamePolicy{AllowedReserved: []string{"system:unauthenticated"}},
		Permits: impersonate.NewPermits(upstream.NewAccessReviewer(&p.live)),
	})
	if err != nil {
		t.Fatal(err)
	}
	var handler http.Handler = gate
	p.gate.Store(&handler)
}

// askActing sends one request and returns who was served, nil for nobody.
func askActing(t *testing.T, server *httptest.Server, w wish) (served *auth.User, code int) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), w.method, server.URL+w.target, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range w.headers {
		r.Header[name] = slices.Clone(values)
	}
	r.Header.Set("Authorization", fmt.Sprintf("Bearer caller-%d", w.caller))
	resp, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || w.method == http.MethodHead {
		return nil, resp.StatusCode
	}
	served = &auth.User{}
	if err := json.Unmarshal(body, served); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return served, resp.StatusCode
}
