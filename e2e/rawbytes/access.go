package rawbytes

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// accessPath is where the proxy asks whether a caller may act as another.
const accessPath = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

// Grant makes the rights be those that callers have: "<user>: <verb>
// <resource>.<group>/<subresource> <namespace>/<name>", with the group and the
// subresource empty where there is none, or "<user>: <verb> <path>". Nothing is
// granted at first. With mute no such question is answered.
func (u *Upstream) Grant(mute bool, rights ...string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.rights, u.mute, u.asked = map[string]bool{}, mute, nil
	for _, right := range rights {
		u.rights[right] = true
	}
}

// Asked are the questions since the last Grant.
func (u *Upstream) Asked() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.asked)
}

// accessReply answers a SubjectAccessReview.
func (u *Upstream) accessReply(body []byte) reply {
	var review struct {
		APIVersion, Kind string
		Spec             struct {
			User        string
			Groups      []string
			Resource    *struct{ Verb, Group, Resource, Subresource, Namespace, Name string } `json:"resourceAttributes"`
			NonResource *struct{ Verb, Path string }                                          `json:"nonResourceAttributes"`
		}
	}
	spec := &review.Spec
	if json.Unmarshal(body, &review) != nil || review.Kind != "SubjectAccessReview" || (spec.Resource == nil) == (spec.NonResource == nil) ||
		!slices.Contains(spec.Groups, "system:authenticated") {
		return statusReply(422, "Invalid")
	}
	var question string
	if a := spec.Resource; a != nil {
		question = fmt.Sprintf("%s: %s %s.%s/%s %s/%s", spec.User, a.Verb, a.Resource, a.Group, a.Subresource, a.Namespace, a.Name)
	} else {
		question = fmt.Sprintf("%s: %s %s", spec.User, spec.NonResource.Verb, spec.NonResource.Path)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked = append(u.asked, question)
	if u.mute {
		return statusReply(500, "InternalError")
	}
	return reply{status: 201, fields: jsonType, body: fmt.Sprintf(
		`{"kind":"SubjectAccessReview","apiVersion":"authorization.k8s.io/v1","status":{"allowed":%t}}`, u.rights[strings.TrimSpace(question)])}
}
