package main

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authconfig"
	"github.com/kube-gatehouse/gatehouse/auth/clientcert"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
	"github.com/kube-gatehouse/gatehouse/auth/oidc/entra"
	"github.com/kube-gatehouse/gatehouse/auth/revocation"
	"github.com/kube-gatehouse/gatehouse/auth/session"
	"github.com/kube-gatehouse/gatehouse/auth/tokenfile"
	"github.com/kube-gatehouse/gatehouse/auth/tokenreview"
	"github.com/kube-gatehouse/gatehouse/cmd/reload"
	"github.com/kube-gatehouse/gatehouse/proxy/audit"
	"github.com/kube-gatehouse/gatehouse/proxy/serve"
	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// parts is everything that the settings describe, built but not running. The
// command check builds it to find faults, and serve to run it.
type parts struct {
	settings     settings
	log          *slog.Logger
	metrics      *prometheus.Registry
	names        auth.NamePolicy
	certificate  *serve.Certificate
	upstream     upstream.Live
	tokens       auth.Live    // of the token file
	tokenCount   atomic.Int64 // how many tokens are in it
	issuers      issuers
	entra        atomic.Pointer[entra.Resolver]
	clientCerts  clientcert.Live
	accounts     *tokenreview.Authenticator // nil if ServiceAccount tokens are not accepted
	self         selfName
	reviews      reviewMetrics
	revoked      revocation.Live
	audit        *audit.Trail                    // nil if nothing is recorded
	sessions     *session.Sessions               // nil if there are no session tokens
	tokenUsers   atomic.Pointer[map[string]bool] // the users of the token file
	rightsStale  chan struct{}                   // holds one value if our own rights should be asked about again
	recheck      atomic.Pointer[func()]          // judges the streams under way again; nil before there are any
	watcher      *reload.Watcher
	fetches      *prometheus.CounterVec
	lookups      *prometheus.CounterVec // of verified tokens
	groupLookups *prometheus.CounterVec
	warnings     map[string][]string // of a source: what is allowed, and probably not meant
}

// assemble reads every file that s names. Whatever is wrong is added to f.
func assemble(s settings, log *slog.Logger, f *faults) *parts {
	p := &parts{
		settings:     s,
		log:          log,
		metrics:      prometheus.NewRegistry(),
		names:        auth.NamePolicy{AllowedReserved: s.AllowedReservedNames},
		certificate:  &serve.Certificate{CertFile: s.TLSCertFile, KeyFile: s.TLSKeyFile},
		rightsStale:  make(chan struct{}, 1),
		warnings:     map[string][]string{},
		fetches:      newFetchCounter(),
		reviews:      newReviewMetrics(),
		lookups:      newLookupCounter(),
		groupLookups: newGroupLookupCounter(),
	}
	p.issuers.log, p.issuers.changed = log, p.changed
	p.upstream.ID = rand.Text()
	var err error
	if p.watcher, err = reload.New(reload.Every, p.metrics, log); err != nil {
		*f = append(*f, err)
		return p
	}
	p.addCertificate(f)
	f.addAll("KUBECONFIG", p.watcher.Add(reload.Source{Name: "upstream", Files: notEmpty(s.Kubeconfig), Load: p.loadUpstream}))
	f.addAll("KUBECONFIG", p.watcher.Add(reload.Source{Name: "upstream_token", Load: p.loadUpstreamToken}))
	if s.TokenAuthFile != "" {
		f.addAll("TOKEN_AUTH_FILE", p.watcher.Add(reload.Source{Name: "token_auth_file", Files: []string{s.TokenAuthFile}, Load: p.loadTokens}))
	}
	if s.ClientCAFile != "" {
		f.addAll("CLIENT_CA_FILE", p.watcher.Add(reload.Source{Name: "client_ca", Files: notEmpty(s.ClientCAFile, s.ClientCRLFile), Load: p.loadClientCAs}))
	}
	if s.Entra.configured() {
		f.addAll("ENTRA_TENANT_ID", p.watcher.Add(reload.Source{Name: "entra", Files: notEmpty(s.Entra.ClientSecretFile, s.Entra.CAFile), Load: p.loadEntra}))
	}
	if s.OIDC.configured() {
		f.addAll("OIDC_ISSUER_URL", p.watcher.Add(reload.Source{Name: "oidc_ca_file", Files: notEmpty(s.OIDC.CAFile), Load: p.loadIssuer}))
	} else if s.AuthenticationConfig != "" {
		f.addAll("AUTHENTICATION_CONFIG", p.watcher.Add(reload.Source{Name: "authentication_config", Files: []string{s.AuthenticationConfig}, Load: p.loadConfig}))
	}
	if s.RevocationFile != "" {
		f.addAll("REVOCATION_FILE", p.watcher.Add(reload.Source{Name: "revocation_file", Files: []string{s.RevocationFile}, Load: p.loadRevocations}))
	}
	p.addTokenReview(f)
	p.addAudit(f)
	p.addSessions(f)
	p.warnOfTenant()
	return p
}

// changed says that something on which verdicts rest has changed.
func (p *parts) changed() {
	if p.accounts != nil {
		p.accounts.Flush()
	}
	p.askRights()
	p.recheckStreams()
}

func (p *parts) recheckStreams() {
	if recheck := p.recheck.Load(); recheck != nil {
		(*recheck)()
	}
}

func (p *parts) addCertificate(f *faults) {
	files := []string{p.settings.TLSCertFile, p.settings.TLSKeyFile}
	for i, variable := range []string{"TLS_CERT_FILE", "TLS_KEY_FILE"} {
		if files[i] == "" {
			f.add(variable, "is required: gatehouse serves TLS alone")
		}
	}
	if files[0] == "" || files[1] == "" {
		return
	}
	err := p.watcher.Add(reload.Source{
		Name: "serving_certificate", Files: files,
		Load: func() ([]string, error) { return files, p.certificate.Load() },
	})
	for _, one := range unjoined(err) {
		variable := "TLS_CERT_FILE"
		if path, ok := errors.AsType[*fs.PathError](one); ok && path.Path == files[1] {
			variable = "TLS_KEY_FILE"
		}
		f.add(variable, "%w", one)
	}
}

func (p *parts) findUpstream() (*upstream.Target, error) {
	if p.settings.Kubeconfig != "" {
		return upstream.Load(p.settings.Kubeconfig)
	}
	return upstream.InCluster(upstream.ServiceAccountDir, p.settings.serviceHost, p.settings.servicePort)
}

func (p *parts) loadUpstream() ([]string, error) {
	target, err := p.findUpstream()
	if err != nil {
		if old := p.upstream.Target(); old != nil {
			return old.Files, err
		}
		return notEmpty(p.settings.Kubeconfig), err
	}
	p.upstream.Swap(target)
	p.changed()
	p.watcher.Reconsider("upstream_token") // the token may be in another file now
	return target.Files, nil
}

func (p *parts) loadUpstreamToken() ([]string, error) {
	target := p.upstream.Target()
	if target == nil {
		return nil, nil // reported by loadUpstream
	}
	p.askRights() // it may be another account's
	return notEmpty(target.TokenFile), target.ReloadToken()
}

func (p *parts) loadTokens() ([]string, error) {
	file := p.settings.TokenAuthFile
	content, err := os.ReadFile(file)
	if err != nil {
		return []string{file}, err
	}
	table, err := tokenfile.Parse(content, p.names)
	if err != nil {
		return []string{file}, prefixed(file, err)
	}
	p.tokens.Swap(table)
	users := table.Users()
	p.tokenUsers.Store(&users)
	p.changed()
	p.tokenCount.Store(int64(table.Len()))
	p.log.Info("static tokens loaded", "file", file, "tokens", table.Len())
	return []string{file}, nil
}

func (p *parts) loadRevocations() ([]string, error) {
	file := p.settings.RevocationFile
	content, err := os.ReadFile(file)
	if err != nil {
		return []string{file}, err
	}
	list, err := revocation.Parse(content)
	if err != nil {
		return []string{file}, prefixed(file, err)
	}
	p.revoked.Swap(list)
	p.changed()
	p.log.Info("revocations loaded", "file", file, "entries", list.Len())
	var warnings []string
	for _, issuer := range list.Issuers() {
		// The cluster's own issuer is not known here; that of session tokens is us.
		if !p.issuers.knows(issuer) && !p.settings.TokenReview && issuer != p.settings.Exchange.URL {
			warnings = append(warnings, fmt.Sprintf("the issuer %q of the revocation file is not configured, so that its entries deny nobody", issuer))
		}
	}
	p.warn("revocation_file", warnings)
	return []string{file}, nil
}

// warn logs what a source allows and probably does not mean, and keeps it in the
// place of what it kept of that source before.
func (p *parts) warn(source string, warnings []string) {
	p.warnings[source] = warnings
	for _, warning := range warnings {
		p.log.Warn(warning, "source", source)
	}
}

// loadIssuer makes the one issuer of the OIDC settings anew: with its CA file,
// its connections change.
func (p *parts) loadIssuer() ([]string, error) {
	o := p.settings.OIDC
	files := notEmpty(o.CAFile)
	_, err := o.requiredClaims()
	reported := err != nil || len(o.unknownAlgorithms()) > 0 // with the settings
	if reported {
		o.SigningAlgs = nil // so that what else is wrong is found
	}
	roots, rootsErr := readRoots("OIDC_CA_FILE", o.CAFile)
	if slices.Contains(p.disallowedIssuers(), o.IssuerURL) {
		rootsErr = errors.Join(rootsErr, errors.New("is the issuer of the cluster's own ServiceAccount tokens: set GATEHOUSE_ALLOW_CLUSTER_ISSUER if they may sign in as people do"))
	}
	described, err := o.described()
	if err := errors.Join(rootsErr, err); err != nil || reported {
		return files, err
	}
	issuer, err := p.newIssuer(described, roots, o.SigningAlgs)
	if err != nil {
		return files, err
	}
	set, err := newIssuerSet([]*oidc.Issuer{issuer}, auth.Anonymous{})
	if err != nil {
		return files, err
	}
	p.issuers.replace(set)
	return files, nil
}

// loadConfig makes all issuers of the AuthenticationConfiguration anew.
func (p *parts) loadConfig() ([]string, error) {
	file := p.settings.AuthenticationConfig
	files := []string{file}
	content, err := os.ReadFile(file)
	if err != nil {
		return files, err
	}
	config, err := authconfig.Parse(content, p.disallowedIssuers())
	if err != nil {
		return files, prefixed(file, err)
	}
	var list []*oidc.Issuer
	for i, described := range config.Issuers {
		if described.URL == p.settings.Exchange.URL {
			return files, fmt.Errorf("%s: jwt[%d]: the issuer is GATEHOUSE_EXCHANGE_URL: session tokens are of no other issuer", file, i)
		}
		var roots *x509.CertPool
		if len(described.CertificateAuthority) > 0 {
			roots = x509.NewCertPool()
			roots.AppendCertsFromPEM(described.CertificateAuthority) // was validated
		}
		issuer, err := p.newIssuer(described, roots, oidc.Algorithms())
		if err != nil {
			return files, fmt.Errorf("%s: jwt[%d]: %w", file, i, err)
		}
		list = append(list, issuer)
	}
	set, err := newIssuerSet(list, config.Anonymous)
	if err != nil {
		return files, fmt.Errorf("%s: %w", file, err)
	}
	p.warn("authentication_config", config.Collisions())
	p.issuers.replace(set)
	return files, nil
}

// disallowedIssuers is the issuer of gatehouse's own token: a token of the
// cluster is a ServiceAccount's, and not to be taken for a person's.
func (p *parts) disallowedIssuers() []string {
	target := p.upstream.Target()
	if p.settings.AllowClusterIssuer || target == nil {
		return nil
	}
	return notEmpty(oidc.UnverifiedIssuer(strings.TrimPrefix(target.Authorization(), "Bearer ")))
}

func (p *parts) newIssuer(described authconfig.Issuer, roots *x509.CertPool, algorithms []string) (*oidc.Issuer, error) {
	hits, misses := p.lookups.WithLabelValues("hit"), p.lookups.WithLabelValues("miss")
	cfg := oidc.Config{
		URL:               described.URL,
		DiscoveryURL:      described.DiscoveryURL,
		Audiences:         described.Audiences,
		Mapping:           described.Mapping,
		Algorithms:        algorithms,
		AuthorizedParties: p.settings.AuthorizedParties,
		TokenTypes:        p.settings.TokenTypes,
		KeyOrigins:        p.settings.JWKSOrigins,
		Roots:             roots,
		RefreshInterval:   p.settings.JWKSRefreshInterval,
		MaxKeyAge:         p.settings.JWKSMaxAge,
		OnFetch:           func(ok bool) { p.fetches.WithLabelValues(issuerHash(described.URL), resultLabel(ok)).Inc() },
		// A key may have been withdrawn. Fetches alone are no reason: a stranger's
		// forged token causes one.
		OnKeys: p.recheckStreams,
		OnLookup: func(hit bool) {
			if hit {
				hits.Inc()
			} else {
				misses.Inc()
			}
		},
		Log: p.log,
	}
	var err error
	if cfg.Resolver, err = p.newResolver(cfg, described.Mapping); err != nil {
		return nil, err
	}
	return oidc.New(cfg)
}

// readRoots returns the certificates in a file that a variable names.
func readRoots(variable, file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // nil stands for the system's roots in crypto/tls
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fault{variable, err}
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(content) {
		return nil, fault{variable, fmt.Errorf("%s holds no certificate in PEM", file)}
	}
	return roots, nil
}

// notEmpty returns its arguments that are not empty.
func notEmpty(files ...string) []string {
	var kept []string
	for _, file := range files {
		if file != "" {
			kept = append(kept, file)
		}
	}
	return kept
}

// prefixed puts a file's name before each of the errors that err joins.
func prefixed(file string, err error) error {
	var all []error
	for _, one := range unjoined(err) {
		all = append(all, fmt.Errorf("%s: %w", file, one))
	}
	return errors.Join(all...)
}
