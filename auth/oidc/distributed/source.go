package distributed

import (
	"errors"
	"fmt"
	"strings"
)

// source is where a claim is, and what opens it.
type source struct{ endpoint, accessToken string }

// sourceMembers are the members of a claim source with a meaning.
var sourceMembers = []string{"endpoint", "access_token", "JWT"}

// find returns where the claim name stands, or nil if the token holds it, or
// refers to it nowhere. The steps are those of kube-apiserver's claimResolver
// (v1.37); what it overlooks is an error here: an aggregated claim (`JWT`), a
// member in another case of letters, a reference to no source.
func find(claims map[string]any, name string) (*source, error) {
	if _, present := claims[name]; present {
		return nil, nil //nolint:nilnil // there is no source, and nothing is wrong
	}
	value, present := claims["_claim_names"]
	if !present {
		return nil, nil //nolint:nilnil // as above
	}
	names, err := object("_claim_names", value)
	if err != nil {
		return nil, err
	}
	value, present = claims["_claim_sources"]
	if !present {
		return nil, errors.New("`_claim_sources` is missing")
	}
	sources, err := object("_claim_sources", value)
	if err != nil {
		return nil, err
	}
	reference, referred := names[name]
	if !referred {
		return nil, nil //nolint:nilnil // as above
	}
	key, ok := reference.(string)
	if !ok {
		return nil, fmt.Errorf("`_claim_names` names no source for `%s`", name)
	}
	members, ok := sources[key].(map[string]any)
	if !ok {
		return nil, errors.New("`_claim_names` names a source that is not in `_claim_sources`")
	}
	return read(members)
}

// object returns value as a JSON object; null is an empty one.
func object(name string, value any) (map[string]any, error) {
	members, ok := value.(map[string]any)
	if value != nil && !ok {
		return nil, fmt.Errorf("`%s` is not an object", name)
	}
	return members, nil
}

func read(members map[string]any) (*source, error) {
	for member := range members {
		for _, known := range sourceMembers {
			if member != known && strings.EqualFold(member, known) {
				return nil, fmt.Errorf("a member of a claim source differs from %q in case alone", known)
			}
		}
	}
	var s source
	for member, field := range map[string]*string{"endpoint": &s.endpoint, "access_token": &s.accessToken} {
		value, present := members[member]
		if text, ok := value.(string); ok {
			*field = text
		} else if present {
			return nil, fmt.Errorf("`%s` of a claim source is not a string", member)
		}
	}
	if s.endpoint == "" {
		return nil, errors.New("the claim source has no endpoint: aggregated claims are not supported")
	}
	return &s, nil
}
