// Package entra answers: in which groups is a person of Microsoft Entra whose
// token has no room for them?
//
// Entra leaves the claim `groups` out of a token of a person in more than 200
// groups, and names an endpoint instead (`_claim_names`, `_claim_sources`), or
// only says `hasgroups`. The endpoint is one of a service that has ended, wants a
// POST and a credential, and is chosen by the token; it is never asked. In its
// place Microsoft Graph is, with a client credential of gatehouse's own: POST
// /v1.0/users/<oid>/getMemberGroups
// (learn.microsoft.com/graph/api/directoryobject-getmembergroups).
package entra

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/oidc/lookup"
)

// Where Entra and Graph are in the global cloud.
const (
	LoginURL = "https://login.microsoftonline.com"
	GraphURL = "https://graph.microsoft.com"
)

// MaxGroups is the default of [Config].
const MaxGroups = 2000

// groupsClaim is the only claim that Entra puts groups in.
const groupsClaim = "groups"

// Config describes a [Resolver].
type Config struct {
	TenantID     string // a GUID
	ClientID     string // of the application that may read memberships; a GUID
	ClientSecret string
	// LoginURL and GraphURL are origins. Default: those of the global cloud.
	LoginURL, GraphURL string
	// Groups are the ids of the groups to return, if the person is in them.
	// Default: every group.
	Groups []string
	// MaxGroups is how many a person may have, after Groups was applied, before
	// they are refused. Default: [MaxGroups].
	MaxGroups int
	// Roots verify LoginURL and GraphURL. Default: the system's.
	Roots *x509.CertPool
	// Lookup bounds the questions and the age of answers. Default: that of
	// [lookup.Config].
	Lookup lookup.Config
}

// Resolver resolves the groups of people of one tenant.
type Resolver struct {
	cfg    Config
	wanted map[string]bool // nil for all
	client *http.Client
	people *lookup.Cache[[]any]
	tokens *lookup.Cache[string] // of one: our own access token
	paused atomic.Int64          // Unix nanoseconds until which Graph wants no question
}

// New checks cfg and returns a Resolver. It asks nobody. The error joins every
// fault.
func New(cfg Config) (*Resolver, error) {
	var faults []error
	for name, id := range map[string]*string{"tenant id": &cfg.TenantID, "client id": &cfg.ClientID} {
		lower, err := GUID(*id)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", name, err))
		}
		*id = lower
	}
	if cfg.ClientSecret == "" {
		faults = append(faults, errors.New("the client secret is empty"))
	}
	r := &Resolver{client: lookup.NewClient(cfg.Roots)}
	for _, raw := range cfg.Groups {
		id, err := GUID(raw)
		if err != nil {
			faults = append(faults, fmt.Errorf("group: %w", err))
		}
		if r.wanted == nil {
			r.wanted = map[string]bool{}
		}
		r.wanted[id] = true
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	cfg.LoginURL, cfg.GraphURL = orDefault(cfg.LoginURL, LoginURL), orDefault(cfg.GraphURL, GraphURL)
	if cfg.MaxGroups <= 0 {
		cfg.MaxGroups = MaxGroups
	}
	if cfg.Lookup.Now == nil {
		cfg.Lookup.Now = time.Now
	}
	r.cfg = cfg
	r.people = lookup.NewCache[[]any](cfg.Lookup)
	// The token lasts as long as Entra says, be it longer than a membership may
	// be kept.
	r.tokens = lookup.NewCache[string](lookup.Config{Keep: 24 * time.Hour, Timeout: cfg.Lookup.Timeout, Now: cfg.Lookup.Now})
	return r, nil
}

func orDefault(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}

// GUID returns id in lower case, or an error if it is not of the form
// 00000000-0000-0000-0000-000000000000: nothing else becomes part of a path.
func GUID(id string) (string, error) {
	const form = "00000000-0000-0000-0000-000000000000"
	good := len(id) == len(form)
	for i := 0; good && i < len(id); i++ {
		c := id[i]
		hex := c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
		good = hex && form[i] == '0' || c == '-' && form[i] == '-'
	}
	if !good {
		return "", fmt.Errorf("%.50q is not an id like %s", id, form)
	}
	return strings.ToLower(id), nil
}

// IsIssuer reports whether url is one under which Entra issues the tokens of a
// tenant: of version 2 on loginURL, or of version 1.
func IsIssuer(url, loginURL, tenantID string) bool {
	tenantID = strings.ToLower(tenantID)
	return tenantID != "" && slices.Contains([]string{
		orDefault(loginURL, LoginURL) + "/" + tenantID + "/v2.0",
		"https://sts.windows.net/" + tenantID + "/",
		"https://sts.chinacloudapi.cn/" + tenantID + "/",
	}, url)
}

// Resolve returns claims with the groups put in if names holds the claim
// `groups` and a token of the tenant has no room for it, and until when that
// holds; zero if nothing was put in.
func (r *Resolver) Resolve(ctx context.Context, claims map[string]any, names []string) (map[string]any, time.Time, error) {
	if !slices.Contains(names, groupsClaim) || !overage(claims) {
		return claims, time.Time{}, nil
	}
	person, err := r.person(claims)
	if err != nil {
		return nil, time.Time{}, auth.Refuse(auth.KindOIDC, auth.UnsupportedClaims, err.Error())
	}
	answer, err := r.people.Get(ctx, lookup.KeyOf(person), func(ctx context.Context) (lookup.Answer[[]any], error) {
		return r.groupsOf(ctx, person)
	})
	if err != nil {
		return nil, time.Time{}, lookup.Refusal(err)
	}
	resolved := maps.Clone(claims)
	resolved[groupsClaim] = answer.Value
	return resolved, answer.Until, nil
}

// overage reports whether a token says that there are groups, and not which.
func overage(claims map[string]any) bool {
	if _, present := claims[groupsClaim]; present {
		return false
	}
	names, _ := claims["_claim_names"].(map[string]any)
	return names[groupsClaim] != nil || claims["hasgroups"] == true
}

// person returns the id of whom a verified token is about.
func (r *Resolver) person(claims map[string]any) (string, error) {
	tenant, _ := claims["tid"].(string)
	if id, err := GUID(tenant); err != nil || id != r.cfg.TenantID {
		return "", errors.New("the token's `tid` is not GATEHOUSE_ENTRA_TENANT_ID, so that its groups cannot be looked up")
	}
	object, _ := claims["oid"].(string)
	id, err := GUID(object)
	if err != nil {
		return "", errors.New("the token's `oid` is missing or no object id, so that its groups cannot be looked up: the scope `profile` brings it")
	}
	return id, nil
}
