package serve

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// Certificate is the serving certificate in use. A reload replaces it for the
// handshakes that follow.
type Certificate struct {
	CertFile, KeyFile string
	current           atomic.Pointer[tls.Certificate]
}

// Load reads the pair of files. On an error the last good pair stays.
func (c *Certificate) Load() error {
	certPEM, certErr := os.ReadFile(c.CertFile)
	if certErr != nil {
		certErr = fmt.Errorf("read serving certificate: %w", certErr)
	}
	keyPEM, keyErr := os.ReadFile(c.KeyFile)
	if keyErr != nil {
		keyErr = fmt.Errorf("read serving key: %w", keyErr)
	}
	if err := errors.Join(certErr, keyErr); err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return fmt.Errorf("serving certificate %s and key %s: %w", c.CertFile, c.KeyFile, err)
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return fmt.Errorf("serving certificate %s: %w", c.CertFile, err)
		}
	}
	c.current.Store(&pair)
	return nil
}

// Expires returns when the certificate in use ends.
func (c *Certificate) Expires() time.Time {
	if pair := c.current.Load(); pair != nil {
		return pair.Leaf.NotAfter
	}
	return time.Time{}
}

func (c *Certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}
