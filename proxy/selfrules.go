package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/kube-gatehouse/gatehouse/auth/scope"
)

// leftOut is why a list of rules is incomplete.
const leftOut = "the scope of your token narrows this list, and leaves more than can be written here: ask about one thing to be sure"

// narrowRules takes out of status what the scope denies. It reports whether it
// changed status.
func (s *selfReview) narrowRules(_, status object) (bool, error) {
	n := s.scope.Narrow(s.namespace)
	onResources, err := narrowList(status, "resourceRules", func(rule object) ([]object, bool, error) { return narrowResources(n, rule) })
	if err != nil {
		return false, err
	}
	onPaths, err := narrowList(status, "nonResourceRules", func(rule object) ([]object, bool, error) { return narrowPaths(n, rule) })
	if err != nil || !n.Incomplete() {
		return onResources || onPaths, err
	}
	why := leftOut
	if before := status.text("evaluationError"); before != "" {
		why = before + "; " + why
	}
	return true, errors.Join(status.set("incomplete", true), status.set("evaluationError", why))
}

// narrowList replaces each rule of the list name by what narrow leaves of it, and
// reports whether that is something else.
func narrowList(status object, name string, narrow func(object) (left []object, changed bool, err error)) (changed bool, err error) {
	var rules []json.RawMessage
	if raw := status[name]; raw != nil {
		if err := json.Unmarshal(raw, &rules); err != nil {
			return false, fmt.Errorf("%s: %w", name, err)
		}
	}
	all := []json.RawMessage{} // null would be no list
	for _, raw := range rules {
		rule, err := readObject(raw)
		if err != nil {
			return false, fmt.Errorf("%s: %w", name, err)
		}
		left, other, err := narrow(rule)
		if err != nil {
			return false, fmt.Errorf("%s: %w", name, err)
		}
		if !other {
			all = append(all, raw)
			continue
		}
		changed = true
		for _, one := range left {
			encoded, err := encode(one)
			if err != nil {
				return false, err
			}
			all = append(all, encoded)
		}
	}
	if !changed {
		return false, nil
	}
	return true, status.set(name, all)
}

// narrowResources returns what is left of a rule about resources, and whether that
// is something else.
func narrowResources(n *scope.Narrowing, rule object) (left []object, changed bool, err error) {
	var was scope.Rule
	if err := errors.Join(rule.list("verbs", &was.Verbs), rule.list("apiGroups", &was.Groups),
		rule.list("resources", &was.Resources), rule.list("resourceNames", &was.Names)); err != nil {
		return nil, false, err
	}
	rules, changed := n.Rule(was)
	for _, r := range rules {
		one := maps.Clone(rule) // whatever else it says, it goes on saying
		if err := errors.Join(one.set("verbs", r.Verbs), one.set("apiGroups", r.Groups), one.set("resources", r.Resources)); err != nil {
			return nil, false, err
		}
		if len(r.Names) > 0 {
			if err := one.set("resourceNames", r.Names); err != nil {
				return nil, false, err
			}
		}
		left = append(left, one)
	}
	return left, changed, nil
}

// narrowPaths is narrowResources for a rule about paths.
func narrowPaths(n *scope.Narrowing, rule object) (left []object, changed bool, err error) {
	var was scope.PathRule
	if err := errors.Join(rule.list("verbs", &was.Verbs), rule.list("nonResourceURLs", &was.Paths)); err != nil {
		return nil, false, err
	}
	rules, changed := n.Path(was)
	for _, r := range rules {
		one := maps.Clone(rule)
		if err := errors.Join(one.set("verbs", r.Verbs), one.set("nonResourceURLs", r.Paths)); err != nil {
			return nil, false, err
		}
		left = append(left, one)
	}
	return left, changed, nil
}

// object is one of JSON, of which what is not changed stays as it was written.
type object map[string]json.RawMessage

func readObject(raw []byte) (object, error) {
	var o object
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	if o == nil {
		return nil, errors.New("read JSON: it is no object")
	}
	return o, nil
}

// text returns a field that is a string, else "".
func (o object) text(name string) string {
	var text string
	if json.Unmarshal(o[name], &text) != nil {
		return ""
	}
	return text
}

// list reads a field that is a list of strings, if it is there.
func (o object) list(name string, into *[]string) error {
	if o[name] == nil {
		return nil
	}
	if err := json.Unmarshal(o[name], into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (o object) set(name string, value any) error {
	raw, err := encode(value)
	o[name] = raw
	return err
}

// encode is json.Marshal that leaves <, > and & as they are.
func encode(value any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, fmt.Errorf("write JSON: %w", err)
	}
	return b.Bytes(), nil
}
