package rawbytes

import (
	"net/url"
	"slices"
	"strings"
)

// Identity is whom kube-apiserver would serve.
type Identity struct {
	User, UID string
	Groups    []string
	Extra     map[string][]string
	// Token is the caller's own, where that goes on instead of the rest.
	Token string
	// As is whom the holder of Token asks to be, if anybody: the API server
	// decides about that.
	As *Identity
}

// Equal compares byte for byte, order of groups included.
func (a Identity) Equal(b Identity) bool {
	if a.User != b.User || a.UID != b.UID || !slices.Equal(a.Groups, b.Groups) || len(a.Extra) != len(b.Extra) {
		return false
	}
	for k, v := range a.Extra {
		if !slices.Equal(v, b.Extra[k]) {
			return false
		}
	}
	return true
}

const extraPrefix = "impersonate-extra-"

// Impersonated applies kube-apiserver's rules to a request header: the first
// user and uid count, every group counts, extra keys are lower-cased and then
// percent-decoded. Both results false and nil means that the request runs as
// the connection's own account; bad means that kube-apiserver answers 400.
func Impersonated(f Fields) (id *Identity, bad bool) {
	got := Identity{User: f.Get("Impersonate-User"), UID: f.Get("Impersonate-Uid"), Groups: f.All("Impersonate-Group")}
	for _, l := range f {
		name := strings.ToLower(l.Name)
		if !strings.HasPrefix(name, extraPrefix) {
			continue
		}
		key := name[len(extraPrefix):]
		if plain, err := url.PathUnescape(key); err == nil {
			key = plain
		}
		if got.Extra == nil {
			got.Extra = map[string][]string{}
		}
		got.Extra[key] = append(got.Extra[key], l.Value)
	}
	if got.User != "" {
		return &got, false
	}
	return nil, got.UID != "" || len(got.Groups) > 0 || len(got.Extra) > 0
}
