package main

import (
	"crypto/x509"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kube-gatehouse/gatehouse/auth/clientcert"
)

// clientCAs returns what tells clients which certificates to show, or nil if
// none are accepted.
func (p *parts) clientCAs() func() *x509.CertPool {
	if p.settings.ClientCAFile == "" {
		return nil
	}
	return func() *x509.CertPool { return p.clientCerts.CAs().Pool() }
}

// loadClientCAs reads the CAs and their revocation lists together: lists are
// worth what the CAs that signed them are.
func (p *parts) loadClientCAs() ([]string, error) {
	s := p.settings
	files := notEmpty(s.ClientCAFile, s.ClientCRLFile)
	content, err := os.ReadFile(s.ClientCAFile)
	if err != nil {
		return files, err
	}
	cas, err := clientcert.ParseCAs(content)
	if err != nil {
		return files, prefixed(s.ClientCAFile, err)
	}
	var crls *clientcert.CRLs
	if s.ClientCRLFile != "" {
		if crls, err = p.readCRLs(cas); err != nil {
			return files, err
		}
	}
	if err := p.clientCerts.Swap(cas, crls); err != nil {
		return files, err
	}
	p.changed()
	return files, nil
}

func (p *parts) readCRLs(cas *clientcert.CAs) (*clientcert.CRLs, error) {
	file := p.settings.ClientCRLFile
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fault{"CLIENT_CRL_FILE", err}
	}
	crls, err := clientcert.ParseCRLs(content, cas, time.Now())
	if err != nil {
		return nil, fault{"CLIENT_CRL_FILE", prefixed(file, err)}
	}
	var warnings []string
	for _, ca := range crls.Uncovered() {
		warnings = append(warnings, fmt.Sprintf("no revocation list speaks of the certificates of the client CA %s: they cannot be revoked", ca))
	}
	p.warn("client_ca", warnings)
	p.log.Info("revocation lists loaded", "file", file, "lists", crls.String())
	return crls, nil
}

// crlMetric is when the first of the revocation lists must be renewed.
func (p *parts) crlMetric() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gatehouse_client_crl_next_update_timestamp_seconds",
		Help: "When the first of the certificate revocation lists is out of date, in Unix time; 0 without any.",
	}, func() float64 {
		crls := p.clientCerts.CRLs()
		if crls == nil || crls.NextUpdate().IsZero() {
			return 0
		}
		return float64(crls.NextUpdate().Unix())
	})
}
