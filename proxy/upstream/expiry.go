package upstream

import (
	"crypto/tls"
	"time"
)

// certificateEnds returns when the client certificate of cfg ends, or the zero
// time if there is none that can be read: connecting tells why.
func certificateEnds(cfg *tls.Config) time.Time {
	if cfg.GetClientCertificate == nil {
		return time.Time{}
	}
	pair, err := cfg.GetClientCertificate(&tls.CertificateRequestInfo{})
	if err != nil || pair.Leaf == nil {
		return time.Time{}
	}
	return pair.Leaf.NotAfter
}
