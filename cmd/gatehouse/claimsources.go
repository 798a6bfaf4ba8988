package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authconfig"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
	"github.com/kube-gatehouse/gatehouse/auth/oidc/distributed"
	"github.com/kube-gatehouse/gatehouse/auth/oidc/entra"
	"github.com/kube-gatehouse/gatehouse/auth/oidc/lookup"
)

// entraSettings say how the groups of people are looked up for whom a token of
// Microsoft Entra has no room for them.
type entraSettings struct {
	TenantID         string        `env:"TENANT_ID" doc:"Id of the Microsoft Entra tenant whose people's groups are looked up in Microsoft Graph if a token has no room for them (more than 200). Its issuer must be configured too. Unset: such tokens are refused."`
	ClientID         string        `env:"CLIENT_ID" doc:"Id of the Entra application that gatehouse asks Graph as. It needs the application permissions GroupMember.Read.All and User.Read.All, or Directory.Read.All."`
	ClientSecretFile string        `env:"CLIENT_SECRET_FILE" doc:"File that holds the client secret of that application. Reloaded when it changes."`
	Groups           []string      `env:"GROUPS" doc:"Ids of the groups to look for, such as those that RBAC names, separated by commas; others in which Graph finds a person are left out. Unset: all, and a person in more than 2000 is refused."`
	GroupsMaxAge     time.Duration `env:"GROUPS_MAX_AGE" envDefault:"5m" doc:"How long an answer of Graph is used for a person; at most 1h. A membership that was taken away ends within this time."`
	LoginURL         string        `env:"LOGIN_URL" envDefault:"https://login.microsoftonline.com" doc:"Origin of Entra, for other clouds."`
	GraphURL         string        `env:"GRAPH_URL" envDefault:"https://graph.microsoft.com" doc:"Origin of Microsoft Graph, for other clouds."`
	CAFile           string        `env:"CA_FILE" doc:"CA certificates, as PEM, that verify both; the system's without it. Reloaded when it changes."`
}

// configured reports whether anything of Entra was set.
func (e entraSettings) configured() bool {
	return !reflect.DeepEqual(e, entraSettings{GroupsMaxAge: 5 * time.Minute, LoginURL: entra.LoginURL, GraphURL: entra.GraphURL})
}

// check returns everything that is wrong with the variables.
func (e entraSettings) check() faults {
	var f faults
	if !e.configured() {
		return nil
	}
	for _, id := range []struct{ name, value string }{{"ENTRA_TENANT_ID", e.TenantID}, {"ENTRA_CLIENT_ID", e.ClientID}} {
		if id.value == "" {
			f.add(id.name, "is required with any other GATEHOUSE_ENTRA_ variable")
		} else if _, err := entra.GUID(id.value); err != nil {
			f.add(id.name, "%w", err)
		}
	}
	if e.ClientSecretFile == "" {
		f.add("ENTRA_CLIENT_SECRET_FILE", "is required with any other GATEHOUSE_ENTRA_ variable")
	}
	for _, group := range e.Groups {
		if _, err := entra.GUID(group); err != nil && strings.TrimSpace(group) == group && group != "" {
			f.add("ENTRA_GROUPS", "%w", err)
		}
	}
	for _, origin := range []struct{ name, value string }{{"ENTRA_LOGIN_URL", e.LoginURL}, {"ENTRA_GRAPH_URL", e.GraphURL}} {
		if !isOrigin(origin.value) {
			f.add(origin.name, "%q is not an origin like %s", origin.value, entra.LoginURL)
		}
	}
	if e.GroupsMaxAge < time.Second || e.GroupsMaxAge > time.Hour {
		f.add("ENTRA_GROUPS_MAX_AGE", "%s is not between 1s and 1h", e.GroupsMaxAge)
	}
	return f
}

// checkClaimSources judges the settings of what resolves claims.
func (s *settings) checkClaimSources(f *faults) {
	*f = append(*f, s.Entra.check()...)
	if f.has("DISTRIBUTED_CLAIM_ENDPOINTS") {
		return
	}
	_, err := distributed.ParseEndpoints(s.DistributedClaimEndpoints)
	f.addAll("DISTRIBUTED_CLAIM_ENDPOINTS", err)
}

// loadEntra makes the resolver of Entra's groups anew, and forgets what it knew.
func (p *parts) loadEntra() ([]string, error) {
	e := p.settings.Entra
	files := notEmpty(e.ClientSecretFile, e.CAFile)
	secret, secretErr := readSecret("ENTRA_CLIENT_SECRET_FILE", e.ClientSecretFile)
	roots, rootsErr := readRoots("ENTRA_CA_FILE", e.CAFile)
	if err := errors.Join(secretErr, rootsErr); err != nil || len(e.check()) > 0 {
		return files, err // the variables' faults are reported with the settings
	}
	resolver, err := entra.New(entra.Config{
		TenantID: e.TenantID, ClientID: e.ClientID, ClientSecret: secret,
		LoginURL: e.LoginURL, GraphURL: e.GraphURL, Roots: roots, Groups: notEmpty(e.Groups...),
		Lookup: lookup.Config{Keep: e.GroupsMaxAge, OnAsk: p.countLookups("entra")},
	})
	if err != nil {
		return files, err
	}
	p.entra.Store(resolver)
	return files, nil
}

// readSecret returns the one line of a file that a variable names.
func readSecret(variable, file string) (string, error) {
	if file == "" {
		return "", nil // reported with the settings
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return "", fault{variable, err}
	}
	secret := strings.TrimRight(string(content), "\r\n")
	if secret == "" || strings.ContainsFunc(secret, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return "", fault{variable, fmt.Errorf("%s does not hold one line of visible characters", file)}
	}
	return secret, nil
}

// newResolver returns who resolves the claims to which an issuer's tokens only
// refer, or nil if nobody does.
func (p *parts) newResolver(cfg oidc.Config, mapping authconfig.Mapping) (oidc.Resolver, error) {
	e := p.settings.Entra
	if entra.IsIssuer(cfg.URL, e.LoginURL, e.TenantID) {
		return &entraGroups{parts: p, always: mapping.GroupsByExpression()}, nil
	}
	endpoints, err := distributed.ParseEndpoints(p.settings.DistributedClaimEndpoints)
	if err != nil || endpoints.Empty() {
		return nil, nil //nolint:nilnil,nilerr // reported with the settings; nil stands for nobody
	}
	sources, err := oidc.NewSources(cfg, p.settings.DistributedClaimEndpoints, p.issuers.list)
	if err != nil {
		return nil, err
	}
	return distributed.New(distributed.Config{
		Endpoints: endpoints, Verifier: sources, Roots: cfg.Roots,
		Lookup: lookup.Config{OnAsk: p.countLookups("distributed")},
	}), nil
}

// entraGroups is the present resolver of Entra's groups, for one issuer.
type entraGroups struct {
	parts  *parts
	always bool // an expression makes the groups, of which none may be missing
}

// Resolve asks the present resolver. kube-apiserver follows no reference where an
// expression makes the groups, and cannot look up Entra's at all. Who set that up
// means it for expressions too, which else would see a person without groups.
func (e *entraGroups) Resolve(ctx context.Context, claims map[string]any, names []string) (map[string]any, time.Time, error) {
	resolver := e.parts.entra.Load()
	if resolver == nil {
		return nil, time.Time{}, auth.Refuse(auth.KindOIDC, auth.GroupsUnavailable, "the settings of Entra are not loaded")
	}
	if e.always {
		names = []string{"groups"}
	}
	return resolver.Resolve(ctx, claims, names)
}

// warnOfTenant tells of settings of Entra that nothing uses.
func (p *parts) warnOfTenant() {
	e := p.settings.Entra
	if !e.configured() || slices.ContainsFunc(p.issuers.list(), func(i *oidc.Issuer) bool { return entra.IsIssuer(i.URL(), e.LoginURL, e.TenantID) }) {
		return
	}
	p.warn("entra", []string{"no configured issuer is that of GATEHOUSE_ENTRA_TENANT_ID: nobody's groups will be looked up in Microsoft Graph"})
}

func newGroupLookupCounter() *prometheus.CounterVec {
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_group_lookups_total",
		Help: "Questions for groups to which a token only referred, by resolver (distributed or entra) and result (success or failure).",
	}, []string{"resolver", "result"})
	for _, resolver := range []string{"distributed", "entra"} {
		for _, ok := range []bool{true, false} {
			counter.WithLabelValues(resolver, resultLabel(ok))
		}
	}
	return counter
}

func (p *parts) countLookups(resolver string) func(ok bool) {
	return func(ok bool) { p.groupLookups.WithLabelValues(resolver, resultLabel(ok)).Inc() }
}
