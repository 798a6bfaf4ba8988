package distributed

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Endpoints is a list of URLs at or below which claim sources may be asked.
type Endpoints struct{ allowed []endpoint }

// endpoint is a URL of which nothing is left to interpret.
type endpoint struct {
	origin string // scheme, host and port, in one spelling
	path   string // begins with /, or is empty
}

// maxURL is longer than any endpoint that is meant.
const maxURL = 2048

// ParseEndpoints reads a list of URL prefixes, such as
// https://claims.example.com/groups. The error joins one for each that is none.
func ParseEndpoints(prefixes []string) (Endpoints, error) {
	var list Endpoints
	var faults []error
	for _, raw := range prefixes {
		allowed, err := parseURL(raw)
		if err != nil {
			faults = append(faults, fmt.Errorf("%q is no URL like https://claims.example.com/groups: it %w", raw, err))
			continue
		}
		list.allowed = append(list.allowed, allowed)
	}
	return list, errors.Join(faults...)
}

// Empty reports whether nobody may be asked.
func (e Endpoints) Empty() bool { return len(e.allowed) == 0 }

// Allow returns an error unless raw, which a token named, is on one of the
// origins and there at or below its path. It has to be written plainly: two
// readers of it must not come to two servers or two paths.
func (e Endpoints) Allow(raw string) error {
	asked, err := parseURL(raw)
	if err != nil {
		return fmt.Errorf("the claim source's endpoint %w", err)
	}
	for _, allowed := range e.allowed {
		if asked.origin == allowed.origin && below(asked.path, allowed.path) {
			return nil
		}
	}
	return errors.New("the claim source's endpoint is not at or below one of GATEHOUSE_DISTRIBUTED_CLAIM_ENDPOINTS")
}

// below reports whether path is prefix, or below it at the boundary of a segment.
func below(path, prefix string) bool {
	rest, found := strings.CutPrefix(path, prefix)
	return found && (rest == "" || rest[0] == '/' || strings.HasSuffix(prefix, "/"))
}

// pathCharacters may stand in a path besides letters and digits. Percent signs
// hide dots and slashes, a backslash is a slash to some, and what follows a
// semicolon is cut off by some (/..;/).
const pathCharacters = "/-._~@:=,+"

// parseURL refuses whatever could be read in two ways.
func parseURL(raw string) (endpoint, error) {
	rest, found := strings.CutPrefix(raw, "https://")
	if !found {
		return endpoint{}, errors.New("does not begin with https://")
	}
	if len(raw) > maxURL {
		return endpoint{}, fmt.Errorf("has more than %d bytes", maxURL)
	}
	authority, path := rest, ""
	if slash := strings.IndexByte(rest, '/'); slash >= 0 {
		authority, path = rest[:slash], rest[slash:]
	}
	if err := checkAuthority(authority); err != nil {
		return endpoint{}, err
	}
	if err := checkPath(path); err != nil {
		return endpoint{}, err
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host != authority || u.Path != path || u.User != nil || u.Hostname() == "" {
		return endpoint{}, errors.New("cannot be read")
	}
	return endpoint{origin: "https://" + strings.TrimSuffix(strings.ToLower(authority), ":443"), path: path}, nil
}

func checkAuthority(authority string) error {
	for _, c := range authority {
		if !isAlphanumeric(c) && !strings.ContainsRune("-._:[]", c) {
			return errors.New("has something else than a host and a port before its path")
		}
	}
	if authority == "" || strings.HasSuffix(authority, ":") {
		return errors.New("has no host, or an empty port")
	}
	return nil
}

func checkPath(path string) error {
	for _, c := range path {
		if !isAlphanumeric(c) && !strings.ContainsRune(pathCharacters, c) {
			return errors.New("has a query, a fragment, or a path of other characters than letters, digits and " + pathCharacters)
		}
	}
	if strings.Contains(path, "//") {
		return errors.New("has an empty segment in its path")
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return errors.New("has a dot segment in its path")
		}
	}
	return nil
}

func isAlphanumeric(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
