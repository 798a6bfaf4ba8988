package audit

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	internal "k8s.io/apiserver/pkg/apis/audit"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Annotations that gatehouse gives its events, below [auth.OwnExtraPrefix].
const (
	Credential   = auth.OwnExtraPrefix + "credential"    // the kind of credential
	Issuer       = auth.OwnExtraPrefix + "issuer"        // of an ID token
	CredentialID = auth.OwnExtraPrefix + "credential-id" // JTI=… or X509SHA256=…
	Refused      = auth.OwnExtraPrefix + "refused"       // why the credential was refused
	Scope        = auth.OwnExtraPrefix + "scope"         // of a session token
	Actor        = auth.OwnExtraPrefix + "actor"         // who acts by a session token, the present one first
	OutOfScope   = auth.OwnExtraPrefix + "out-of-scope"  // the word of the scope that does not allow the request
	Exchanged    = auth.OwnExtraPrefix + "exchanged-for" // of a token exchange: session, or service_account and which
	IssuedID     = auth.OwnExtraPrefix + "issued-id"     // JTI=… of a session token that was given
	Rejected     = auth.OwnExtraPrefix + "rejected"      // the limit that was reached
	NotAs        = auth.OwnExtraPrefix + "not-as"        // whom the caller may not act as
	AsMode       = auth.OwnExtraPrefix + "as-mode"       // what allowed the caller to act so
	Ended        = auth.OwnExtraPrefix + "ended"         // why gatehouse ended the request
	Aborted      = auth.OwnExtraPrefix + "aborted"       // the answer was cut off

	leftOutParameters = auth.OwnExtraPrefix + "left-out-parameters" // how many of the query are not in requestURI
)

// NoteCredential adds to annotations by which credential somebody came.
func NoteCredential(annotations map[string]string, id *auth.Identity) {
	annotations[Credential] = string(id.Kind)
	if id.Issuer != "" {
		annotations[Issuer] = id.Issuer
	}
	if len(id.IDs) > 0 {
		annotations[CredentialID] = id.IDs[0] // the others would do, but were not presented
	}
}

// authenticatedGroup is the group that kube-apiserver gives everybody who signed
// in. Policies go by it.
const authenticatedGroup = "system:authenticated"

// Request is what is known of a request once its credential was judged.
type Request struct {
	ID        string // by which the API server's audit log knows it too
	Received  time.Time
	Method    string // in lower case
	URL       *url.URL
	UserAgent string
	Client    string // address
	// Info is what the request is to Kubernetes; nil if its path makes no sense.
	Info *request.RequestInfo
	// User is who asked; nil if nobody was signed in.
	User *auth.User
}

// attributes are what kube-apiserver's policy goes by.
func (r *Request) attributes() authorizer.AttributesRecord {
	a := authorizer.AttributesRecord{Verb: r.Method, Path: r.URL.Path}
	if info := r.Info; info != nil {
		a = authorizer.AttributesRecord{
			Verb: info.Verb, Path: info.Path, ResourceRequest: info.IsResourceRequest,
			APIGroup: info.APIGroup, APIVersion: info.APIVersion, Resource: info.Resource, Subresource: info.Subresource,
			Namespace: info.Namespace, Name: info.Name,
		}
	}
	if r.User != nil {
		a.User = &user.DefaultInfo{Name: r.User.Name, UID: r.User.UID, Groups: groupsOf(r.User), Extra: r.User.Extra}
	}
	return a
}

// event returns what the events of all stages share.
func (r *Request) event(level internal.Level, a authorizer.AttributesRecord) auditv1.Event {
	uri, leftOut := requestURI(r.URL, a.Subresource == "proxy")
	e := auditv1.Event{
		TypeMeta:                 metav1.TypeMeta{Kind: "Event", APIVersion: auditv1.SchemeGroupVersion.String()},
		Level:                    auditv1.Level(level),
		AuditID:                  types.UID(r.ID),
		RequestURI:               uri,
		Verb:                     bounded(a.Verb, maxField),
		SourceIPs:                []string{r.Client},
		UserAgent:                bounded(r.UserAgent, maxUserAgent),
		RequestReceivedTimestamp: metav1.NewMicroTime(r.Received),
	}
	if leftOut > 0 {
		e.Annotations = map[string]string{leftOutParameters: strconv.Itoa(leftOut)}
	}
	if r.User != nil {
		e.User = userInfo(r.User)
	}
	if a.ResourceRequest {
		e.ObjectRef = &auditv1.ObjectReference{
			Namespace: bounded(a.Namespace, maxField), Name: bounded(a.Name, maxField),
			Resource: bounded(a.Resource, maxField), Subresource: bounded(a.Subresource, maxField),
			APIGroup: bounded(a.APIGroup, maxField), APIVersion: bounded(a.APIVersion, maxField),
		}
	}
	return e
}

func userInfo(u *auth.User) authenticationv1.UserInfo {
	info := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: groupsOf(u)}
	if len(u.Extra) > 0 {
		info.Extra = make(map[string]authenticationv1.ExtraValue, len(u.Extra))
		for key, values := range u.Extra {
			info.Extra[key] = values
		}
	}
	return info
}

// groupsOf returns the groups of u as the API server sees them: it adds one to
// everybody but the anonymous user (v1.37, pkg/authentication/group).
func groupsOf(u *auth.User) []string {
	if slices.Contains(u.Groups, authenticatedGroup) || slices.Contains(u.Groups, auth.UnauthenticatedGroup) {
		return u.Groups
	}
	return append(slices.Clone(u.Groups), authenticatedGroup)
}

// Outcome is what has become of a request when it reached a stage.
type Outcome struct {
	Time time.Time
	As   *auth.User // whom it is for, if not for who asked
	// Status is that of the answer: its code alone if the API server gave it.
	Status metav1.Status
	// Annotations are those above that apply.
	Annotations map[string]string
}

// Entry is a request that is being recorded.
type Entry struct {
	trail *Trail
	omit  []internal.Stage
	event auditv1.Event
}

// Started records that the answer to a long-running request began.
func (e *Entry) Started(o Outcome) { e.record(internal.StageResponseStarted, o) }

// Complete records the end of a request.
func (e *Entry) Complete(o Outcome) { e.record(internal.StageResponseComplete, o) }

// Panicked records the end of a request by a fault in gatehouse.
func (e *Entry) Panicked(o Outcome) { e.record(internal.StagePanic, o) }

func (e *Entry) record(stage internal.Stage, o Outcome) {
	if slices.Contains(e.omit, stage) {
		return
	}
	event := e.event
	event.Stage = auditv1.Stage(stage)
	event.StageTimestamp = metav1.NewMicroTime(o.Time)
	size := fixedSize + len(event.RequestURI) + len(event.UserAgent)
	if o.As != nil {
		as := userInfo(o.As)
		event.ImpersonatedUser = &as
		size += sizeOf(o.As)
	}
	if o.Status.Code != 0 {
		event.ResponseStatus = &o.Status
	}
	if len(o.Annotations) > 0 {
		event.Annotations = maps.Clone(o.Annotations)
		maps.Copy(event.Annotations, e.event.Annotations)
		for key, value := range event.Annotations {
			event.Annotations[key] = bounded(value, maxField)
		}
	}
	e.trail.put(queued{&event, size})
}

// sizeOf returns about how much memory u holds: it was made for one request. Who
// asked is shared between requests.
func sizeOf(u *auth.User) int {
	size := len(u.Name) + len(u.UID)
	for _, group := range u.Groups {
		size += len(group)
	}
	for key, values := range u.Extra {
		size += len(key)
		for _, value := range values {
			size += len(value)
		}
	}
	return size
}
