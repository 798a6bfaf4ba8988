// Package authconfig answers: what does the AuthenticationConfiguration say,
// and is it valid?
//
// The file is kube-apiserver's own (apiserver.config.k8s.io v1, v1beta1,
// v1alpha1), and so are the types, the validation and the CEL environment that
// read it here: one file means the same to both. This is the only package that
// imports them.
package authconfig

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/install"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Config is the content of one file.
type Config struct {
	Issuers []Issuer
	// Anonymous says what may be asked for without a credential.
	Anonymous auth.Anonymous
}

// Issuer is one entry of `jwt`.
type Issuer struct {
	URL                  string
	DiscoveryURL         string // empty: the well-known place below URL
	CertificateAuthority []byte // PEM; empty: the system's
	Audiences            []string
	Mapping              Mapping
}

// Parse reads a file: strictly, as kube-apiserver does. Issuers that may not be
// configured, such as the cluster's own for service accounts, are disallowed.
// The error joins every fault, each with the path to it.
func Parse(content []byte, disallowedIssuers []string) (*Config, error) {
	if len(content) == 0 {
		return nil, errors.New("the file is empty")
	}
	file, err := decode(content)
	if err != nil {
		return nil, err
	}
	compiler := authenticationcel.NewDefaultCompiler()
	faults := validation.ValidateAuthenticationConfiguration(compiler, file, disallowedIssuers)
	faults = append(faults, refusedFields(file)...)
	if len(faults) > 0 {
		return nil, joined(faults)
	}
	config := &Config{}
	for _, jwt := range file.JWT {
		mapping, err := newMapping(compiler, jwt)
		if err != nil {
			return nil, err
		}
		config.Issuers = append(config.Issuers, Issuer{
			URL:                  jwt.Issuer.URL,
			DiscoveryURL:         jwt.Issuer.DiscoveryURL,
			CertificateAuthority: []byte(jwt.Issuer.CertificateAuthority),
			Audiences:            slices.Clone(jwt.Issuer.Audiences),
			Mapping:              mapping,
		})
	}
	if file.Anonymous != nil && file.Anonymous.Enabled {
		config.Anonymous.Enabled = true
		for _, condition := range file.Anonymous.Conditions {
			config.Anonymous.Paths = append(config.Anonymous.Paths, condition.Path)
		}
	}
	return config, nil
}

func decode(content []byte) (*apiserver.AuthenticationConfiguration, error) {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	codecs := serializer.NewCodecFactory(scheme, serializer.EnableStrict)
	object, err := runtime.Decode(codecs.UniversalDecoder(), content)
	if err != nil {
		return nil, fmt.Errorf("read as apiserver.config.k8s.io: %w", err)
	}
	file, ok := object.(*apiserver.AuthenticationConfiguration)
	if !ok {
		return nil, fmt.Errorf("kind: expected AuthenticationConfiguration, found %s", object.GetObjectKind().GroupVersionKind().Kind)
	}
	return file, nil
}

// refusedFields names what kube-apiserver accepts and gatehouse cannot honour.
func refusedFields(file *apiserver.AuthenticationConfiguration) field.ErrorList {
	var faults field.ErrorList
	for i, jwt := range file.JWT {
		path := field.NewPath("jwt").Index(i).Child("issuer")
		if fault := addressFault(jwt.Issuer.URL); fault != "" {
			faults = append(faults, field.Invalid(path.Child("url"), jwt.Issuer.URL, fault))
		}
		if jwt.Issuer.EgressSelectorType != "" {
			faults = append(faults, field.Forbidden(path.Child("egressSelectorType"), "gatehouse has no egress selector: leave it out"))
		}
		for j, extra := range jwt.ClaimMappings.Extra {
			if strings.HasPrefix(extra.Key, auth.OwnExtraPrefix) {
				faults = append(faults, field.Invalid(field.NewPath("jwt").Index(i).Child("claimMappings", "extra").Index(j).Child("key"), extra.Key,
					"keys below "+auth.OwnExtraPrefix+" are set by gatehouse itself: a credential may not bring one"))
			}
		}
	}
	return faults
}

// addressFault says what is wrong with an issuer URL that kube-apiserver takes,
// though no issuer can be found there, or "".
func addressFault(raw string) string {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "" // validation has said so
	case u.Hostname() == "":
		return "URL must have a host"
	case u.ForceQuery:
		return "URL must not have a query, not even an empty one"
	case strings.HasSuffix(raw, "#"):
		return "URL must not have a fragment, not even an empty one"
	}
	return ""
}

func joined(faults field.ErrorList) error {
	all := make([]error, len(faults))
	for i, fault := range faults {
		all[i] = fault
	}
	return errors.Join(all...)
}
