package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/kube-gatehouse/gatehouse/auth/scope"
)

// selfReview is a request by which somebody whose token has a scope asks what he
// may do. The API server answers by the cluster's rules alone, so its answer is
// narrowed on its way back.
type selfReview struct {
	kind  string // accessReview or rulesReview
	scope scope.Scope
	kinds requestKinds
	// namespace is that which a rulesReview asks about; empty if it is not known.
	namespace string
}

// The two kinds (k8s.io/api v0.37, authorization/v1).
const (
	accessReview = "SelfSubjectAccessReview"
	rulesReview  = "SelfSubjectRulesReview"

	authorizationGroup = "authorization.k8s.io"
)

// maxReview is the largest answer that is narrowed.
const maxReview = 1 << 20

// errReview says that an answer may claim more than the scope allows.
var errReview = errors.New("the API server's answer cannot be narrowed to the scope of the caller's token")

// selfReviewOf returns the selfReview that the request of x is, or nil.
func (p *Proxy) selfReviewOf(x *exchange) *selfReview {
	if x.identity.Scope.Unlimited() {
		return nil
	}
	info := x.kind.info
	if info == nil || !info.IsResourceRequest || info.Verb != "create" || info.APIGroup != authorizationGroup || info.Subresource != "" {
		return nil
	}
	review := &selfReview{scope: x.identity.Scope, kinds: p.kinds}
	switch info.Resource {
	case "selfsubjectaccessreviews":
		review.kind = accessReview
	case "selfsubjectrulesreviews":
		review.kind = rulesReview
	default:
		return nil
	}
	return review
}

// prepare makes the outgoing header ask for an answer that can be read, and
// returns the body to send in body's place. A SelfSubjectRulesReview's answer does
// not say which namespace it is about (Kubernetes v1.37, pkg/registry/
// authorization/selfsubjectrulesreview): so the API server is asked in words that
// are ours, and understands what we did.
func (s *selfReview) prepare(header http.Header, body []byte) []byte {
	header["Accept"] = []string{"application/json"}
	for _, name := range []string{"Accept-Encoding", "Range", "If-Range", "If-None-Match", "If-Modified-Since"} {
		delete(header, name)
	}
	if s.kind != rulesReview || len(body) == 0 || header["Content-Encoding"] != nil {
		return body
	}
	asked, err := readRulesReview(header.Get("Content-Type"), body)
	if err != nil {
		return body // the API server may understand it; no namespace is known then
	}
	ours, err := json.Marshal(map[string]any{
		"kind": asked.Kind, "apiVersion": asked.APIVersion, "spec": map[string]string{"namespace": asked.Spec.Namespace},
	})
	if err != nil {
		return body
	}
	s.namespace = asked.Spec.Namespace
	header["Content-Type"] = []string{"application/json"}
	return ours
}

// protobufMagic begins what Kubernetes writes as protobuf (apimachinery v0.37,
// pkg/runtime/serializer/protobuf).
const protobufMagic = "k8s\x00"

// readRulesReview reads a caller's SelfSubjectRulesReview in JSON or protobuf. What
// has more in it than gatehouse knows is an error.
func readRulesReview(contentType string, body []byte) (*authorizationv1.SelfSubjectRulesReview, error) {
	var review authorizationv1.SelfSubjectRulesReview
	if strings.HasPrefix(contentType, runtime.ContentTypeProtobuf) {
		var whole runtime.Unknown
		raw, ok := bytes.CutPrefix(body, []byte(protobufMagic))
		if !ok {
			return nil, errors.New("it is no protobuf of Kubernetes")
		}
		if err := whole.Unmarshal(raw); err != nil {
			return nil, fmt.Errorf("read protobuf: %w", err)
		}
		if err := review.Unmarshal(whole.Raw); err != nil {
			return nil, fmt.Errorf("read protobuf: %w", err)
		}
		review.TypeMeta.Kind, review.TypeMeta.APIVersion = whole.Kind, whole.APIVersion
		return &review, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&review); err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("read JSON: there is more behind it")
	}
	return &review, nil
}

// narrowReview narrows resp, whose body may take as long as its beginning might.
func (p *Proxy) narrowReview(x *exchange, resp *http.Response) error {
	if x.patience != nil {
		x.patience.Reset(p.cfg.Limits.AnswerTime)
		defer x.heard()
	}
	return x.review.narrow(resp)
}

// narrow changes an answer so that it claims nothing that the scope denies. What
// claims nothing, as errors do, stays as it is. An error that is errReview says
// that the answer may not be passed on.
func (s *selfReview) narrow(resp *http.Response) error {
	if resp.StatusCode >= 300 {
		return nil
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("%w: it has the code %d", errReview, resp.StatusCode)
	}
	media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || media != "application/json" || resp.Header["Content-Encoding"] != nil {
		return fmt.Errorf("%w: it is %s, and JSON was asked for", errReview, Bounded(strconv.Quote(resp.Header.Get("Content-Type"))))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReview+1))
	if err != nil {
		return fmt.Errorf("read what the caller may do: %w", err)
	}
	if len(body) > maxReview {
		return fmt.Errorf("%w: it has more than %d bytes", errReview, maxReview)
	}
	if body, err = s.narrowed(body); err != nil {
		return fmt.Errorf("%w: %w", errReview, err)
	}
	_ = resp.Body.Close() // it was read to its end
	resp.Body, resp.ContentLength, resp.Trailer = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	resp.Header["Content-Length"] = []string{strconv.Itoa(len(body))}
	delete(resp.Header, "Etag")
	return nil
}

// narrowed returns the review in body, narrowed: body itself if there is nothing to
// narrow.
func (s *selfReview) narrowed(body []byte) ([]byte, error) {
	review, err := readObject(body)
	if err != nil {
		return nil, err
	}
	if review.text("kind") != s.kind || !strings.HasPrefix(review.text("apiVersion"), authorizationGroup+"/") {
		return nil, errors.New("it is of another kind")
	}
	status, err := readObject(review["status"])
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	change := s.narrowAccess
	if s.kind == rulesReview {
		change = s.narrowRules
	}
	if changed, err := change(review, status); err != nil || !changed {
		return body, err
	}
	if err := review.set("status", status); err != nil {
		return nil, err
	}
	narrow, err := encode(review)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(body, []byte("{\n  ")) { // as the parameter pretty has it
		var indented bytes.Buffer
		if err := json.Indent(&indented, narrow, "", "  "); err != nil {
			return nil, fmt.Errorf("write JSON: %w", err)
		}
		return indented.Bytes(), nil
	}
	return narrow, nil
}

// narrowAccess makes the answer no if the scope denies what was asked, by what the
// API server says that was. It reports whether it changed status.
func (s *selfReview) narrowAccess(review, status object) (bool, error) {
	var spec authorizationv1.SelfSubjectAccessReviewSpec
	if err := json.Unmarshal(review["spec"], &spec); err != nil {
		return false, fmt.Errorf("spec: %w", err)
	}
	var asked scope.Request
	switch about, path := spec.ResourceAttributes, spec.NonResourceAttributes; {
	case about != nil && path == nil:
		asked = scope.Question{
			Verb: about.Verb, Group: about.Group, Resource: about.Resource, Subresource: about.Subresource,
			Namespace: about.Namespace, Name: about.Name,
		}.Request()
	case path != nil && about == nil:
		asked = s.onPath(path.Verb, path.Path)
	default:
		return false, errors.New("it does not say what was asked")
	}
	denial := s.scope.Denies(asked)
	if denial == nil {
		return false, nil
	}
	delete(status, "evaluationError")
	return true, errors.Join(status.set("allowed", false), status.set("denied", true), status.set("reason", deniedReason(denial)))
}

// deniedReason is what kubectl prints behind "no - ".
func deniedReason(d *scope.Denial) string {
	if d.Credentials {
		return "a token with a scope makes no other credentials"
	}
	return "the scope of your token has the word " + d.Word
}

// onPath is what a request with this verb and path would be about. By some paths
// the API server takes it for one about a resource.
func (s *selfReview) onPath(verb, path string) scope.Request {
	info, err := s.kinds.resolver.NewRequestInfo(&http.Request{Method: strings.ToUpper(verb), URL: &url.URL{Path: path}})
	if err != nil {
		return scope.Request{Unclear: true}
	}
	asked := scopeRequest(path, info)
	switch {
	case !asked.OfResource:
		asked.Verb = verb
	case strings.Contains(path, "*"):
		return scope.Request{Unclear: true}
	case verb == scope.All:
		asked.Verb = scope.All
	}
	return asked
}
