package authconfig

import (
	"errors"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/lazy"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// claimsValue is the CEL variable `claims`: each claim is converted when an
// expression reads it.
func claimsValue(claims map[string]any) *lazy.MapValue {
	value := lazy.NewMapValue(types.NewObjectType("kubernetes.claims"))
	for name, claim := range claims {
		value.Append(name, func(*lazy.MapValue) ref.Val { return native(claim) })
	}
	return value
}

// userValue is the CEL variable `user`.
func userValue(user auth.User) *lazy.MapValue {
	value := lazy.NewMapValue(types.NewObjectType("kubernetes.UserInfo"))
	for name, member := range map[string]any{
		"username": user.Name, "uid": user.UID, "groups": user.Groups, "extra": user.Extra,
	} {
		value.Append(name, func(*lazy.MapValue) ref.Val { return native(member) })
	}
	return value
}

func native(value any) ref.Val { return unescaping(types.DefaultTypeAdapter.NativeToValue(value)) }

// unescaping lets expressions reach names with special characters by their CEL
// escapes (claims.a__dot__b), at any depth, as kube-apiserver does.
func unescaping(value ref.Val) ref.Val {
	switch value := value.(type) {
	case traits.Mapper:
		return &escapedMap{value}
	case traits.Lister:
		return &escapedList{value}
	default:
		return value
	}
}

type escapedMap struct{ traits.Mapper }

func (m *escapedMap) Find(key ref.Val) (ref.Val, bool) {
	if text, ok := key.(types.String); ok {
		if name, ok := cel.Unescape(string(text)); ok && name != string(text) {
			key = types.String(name)
		}
	}
	value, found := m.Mapper.Find(key)
	return unescaping(value), found
}

type escapedList struct{ traits.Lister }

func (l *escapedList) Get(index ref.Val) ref.Val { return unescaping(l.Lister.Get(index)) }

var errNoStrings = errors.New("the expression gives neither a string nor a list of strings")

// stringList converts the result of an expression: a string, a list of strings
// or null; what is empty is left out.
func stringList(value ref.Val) ([]string, error) {
	switch value.Type().TypeName() {
	case types.NullType.TypeName():
		return nil, nil
	case types.StringType.TypeName():
		return appendString(nil, value.Value())
	case types.ListType.TypeName():
	default:
		return nil, errNoStrings
	}
	var list []string
	var err error
	switch members := value.Value().(type) {
	case []any:
		for _, member := range members {
			if list, err = appendString(list, member); err != nil {
				return nil, err
			}
		}
	case []ref.Val:
		for _, member := range members {
			if list, err = appendString(list, member.Value()); err != nil {
				return nil, err
			}
		}
	default:
		return nil, errNoStrings
	}
	return list, nil
}

func appendString(list []string, member any) ([]string, error) {
	text, ok := member.(string)
	switch {
	case !ok:
		return nil, errNoStrings
	case text == "":
		return list, nil
	default:
		return append(list, text), nil
	}
}
