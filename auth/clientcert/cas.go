package clientcert

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// CAs are the authorities whose client certificates are accepted. They are
// never changed, so they may be shared.
type CAs struct {
	certs []*x509.Certificate
	pool  *x509.CertPool
	byKey map[authority]bool
}

// authority is one key under one name. Two certificates of one CA, as a renewed
// or a cross-signed one, are the same authority.
type authority [sha256.Size]byte

func authorityOf(c *x509.Certificate) authority {
	h := sha256.New()
	fmt.Fprintf(h, "%d:", len(c.RawSubject))
	h.Write(c.RawSubject)
	h.Write(c.RawSubjectPublicKeyInfo)
	return authority(h.Sum(nil))
}

// Len returns the number of certificates.
func (c *CAs) Len() int { return len(c.certs) }

// Pool returns the authorities for tls.Config.ClientCAs, by which a server
// tells clients which certificates it accepts.
func (c *CAs) Pool() *x509.CertPool { return c.pool.Clone() }

// ParseCAs reads a file of PEM certificates, as kube-apiserver's
// --client-ca-file. Each is a trust anchor, an intermediate too.
//
// Between the certificates only white space and lines that begin with "#" may
// stand. kube-apiserver skips everything that it does not know, so that a
// damaged certificate is lost without a word; here it is an error.
func ParseCAs(content []byte) (*CAs, error) {
	blocks, err := pemBlocks(content, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	c := &CAs{pool: x509.NewCertPool(), byKey: map[authority]bool{}}
	var faults []error
	for i, block := range blocks {
		cert, err := x509.ParseCertificate(block)
		if err != nil {
			faults = append(faults, fmt.Errorf("certificate %d: %w", i+1, err))
			continue
		}
		c.certs = append(c.certs, cert)
		c.pool.AddCert(cert)
		c.byKey[authorityOf(cert)] = true
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return c, nil
}

var pemBegin = []byte("-----BEGIN ")

// pemBlocks returns the content of each PEM block. It is an error if there is
// none, if one has another label or has headers, or if there is other text than
// white space and lines of comment.
func pemBlocks(content []byte, label string) ([][]byte, error) {
	var blocks [][]byte
	rest := content
	for {
		rest = skipComments(rest)
		line := 1 + bytes.Count(content[:len(content)-len(rest)], []byte("\n"))
		if len(rest) == 0 {
			break
		}
		if !bytes.HasPrefix(rest, pemBegin) {
			return nil, fmt.Errorf("line %d: neither a PEM block nor a comment", line)
		}
		block, after := pem.Decode(rest)
		// pem.Decode skips a damaged block for the next one that is whole.
		if block == nil || bytes.Count(rest[:len(rest)-len(after)], pemBegin) != 1 {
			return nil, fmt.Errorf("line %d: the PEM block is damaged or cut off", line)
		}
		if block.Type != label {
			return nil, fmt.Errorf("line %d: a PEM block other than %s", line, label)
		}
		if len(block.Headers) > 0 {
			return nil, fmt.Errorf("line %d: the PEM block has headers, which are not supported", line)
		}
		blocks = append(blocks, block.Bytes)
		rest = after
	}
	if len(blocks) == 0 {
		return nil, fmt.Errorf("no PEM block %s in it", label)
	}
	return blocks, nil
}

// skipComments returns what follows the white space and comment lines at the
// beginning of b.
func skipComments(b []byte) []byte {
	for {
		b = bytes.TrimLeft(b, " \t\r\n")
		if len(b) == 0 || b[0] != '#' {
			return b
		}
		_, b, _ = bytes.Cut(b, []byte("\n"))
	}
}
