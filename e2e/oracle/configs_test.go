package oracle_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kube-gatehouse/gatehouse/auth/authconfig"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
)

// configRow is a configuration and the faults that kube-apiserver finds in it.
type configRow struct {
	Config     string         `json:"config"`
	JWT        map[string]any `json:"jwt"`
	File       string         `json:"file"`
	Disallowed []string       `json:"disallowed"`
	Faults     []string       `json:"faults"`
	verdict
}

// Promise: a configuration that kube-apiserver refuses is refused, for the same
// faults at the same places; one that it takes is taken, in every version.
func TestConfigurations(t *testing.T) {
	w := sharedWorld(t)
	for _, c := range readCorpus[configRow](t, "testdata/configs.yaml", w.places()) {
		for _, version := range versions {
			g := group{Config: c.Config, Version: version, JWT: c.JWT, File: c.File}
			t.Run(c.Config+"/"+version, func(t *testing.T) {
				t.Parallel()
				w.judgeConfig(t, g.content(t, w), c.Disallowed, c.verdict, c.Faults)
			})
		}
	}
}

// Promise: 64 issuers may be configured, and 65 may not; an empty file is none.
func TestMostIssuers(t *testing.T) {
	w := sharedWorld(t)
	w.judgeConfig(t, nil, nil, verdict{}, []string{"unreadable"})
	for n, faults := range map[int][]string{0: nil, 64: nil, 65: {"TooMany jwt"}} {
		var file strings.Builder
		file.WriteString("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n")
		for i := range n {
			fmt.Fprintf(&file, "- {issuer: {url: 'https://%d.example', audiences: [a]}, claimMappings: {username: {claim: sub, prefix: ''}}}\n", i)
		}
		w.judgeConfig(t, []byte(file.String()), nil, verdict{}, faults)
	}
}

// judgeConfig gives both sides a configuration that kube-apiserver finds these
// faults in, each "kind path", or that it cannot decode.
func (w *world) judgeConfig(t *testing.T, content []byte, disallowed []string, v verdict, faults []string) {
	t.Helper()
	_, list, err := referenceLoad(content, disallowed)
	want := configAnswer(list, err)
	if faults != nil && strings.Join(want, "; ") != strings.Join(faults, "; ") {
		t.Errorf("the row is wrong about kube-apiserver, which says %q %v", want, err)
	}
	ourErr := gatehouseRefuses(content, disallowed)
	got := configAnswer(fieldFaults(ourErr), ourErr)
	same := strings.Join(want, "; ") == strings.Join(got, "; ")
	judgeFaults(t, v, same, want, got)
}

func judgeFaults(t *testing.T, v verdict, same bool, want, got []string) {
	t.Helper()
	_, isStricter := stricterConfigs[v.Differs]
	count.add(func() {
		count.rows++
		switch {
		case same:
			count.same++
		case v.Differs != "":
			count.divergent[v.Differs]++
		}
	})
	switch {
	case same && v == verdict{}:
	case same:
		t.Errorf("there is no difference any more: take %q away", v.Differs)
	case isStricter && stricterConfig(want, got):
	default:
		t.Errorf("kube-apiserver %q\ngatehouse      %q", want, got)
	}
}

// stricterConfigs are the configurations that gatehouse alone refuses, each by
// its row in docs/divergences.md.
var stricterConfigs = map[string]string{
	"`issuer.egressSelectorType`":                                   "gatehouse has no egress selector",
	"issuer URL without a host, or with an empty query or fragment": "no issuer can be found there",
}

// stricterConfig reports whether gatehouse finds the faults of kube-apiserver,
// and one more at the end of a kind that is meant.
func stricterConfig(want, got []string) bool {
	if len(got) <= len(want) || !slices.Equal(got[:len(want)], want) {
		return false
	}
	return !slices.ContainsFunc(got[len(want):], func(fault string) bool {
		return !strings.HasSuffix(fault, ".issuer.url") && !strings.HasSuffix(fault, ".issuer.egressSelectorType")
	})
}

// gatehouseRefuses returns why gatehouse would not start with a configuration.
func gatehouseRefuses(content []byte, disallowed []string) error {
	config, err := authconfig.Parse(content, disallowed)
	if err != nil {
		return err
	}
	for _, d := range config.Issuers {
		_, err := oidc.New(oidc.Config{URL: d.URL, DiscoveryURL: d.DiscoveryURL, Audiences: d.Audiences, Mapping: d.Mapping})
		if err != nil {
			return err
		}
	}
	return nil
}

// configAnswer returns the faults of a configuration in their order.
func configAnswer(list field.ErrorList, err error) []string {
	var faults []string
	for _, fault := range list {
		faults = append(faults, kindOf(fault)+" "+fault.Field)
	}
	if len(list) == 0 && err != nil {
		return []string{"unreadable"}
	}
	return faults
}

func kindOf(fault *field.Error) string {
	return strings.TrimPrefix(string(fault.Type), "FieldValue")
}

// fieldFaults returns the field errors that are joined in err.
func fieldFaults(err error) field.ErrorList {
	if fault, ok := errors.AsType[*field.Error](err); ok && err == error(fault) {
		return field.ErrorList{fault}
	}
	var list field.ErrorList
	switch err := err.(type) {
	case interface{ Unwrap() []error }:
		for _, one := range err.Unwrap() {
			list = append(list, fieldFaults(one)...)
		}
	case interface{ Unwrap() error }:
		return fieldFaults(err.Unwrap())
	}
	return list
}
