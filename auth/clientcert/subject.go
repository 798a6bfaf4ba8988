package clientcert

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// uidOID is the subject attribute of the user's uid (k8s.io/apimachinery
// v0.37.2, pkg/apis/asn1, X509UID).
var uidOID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57683, 2}

// userOf returns the user that a verified certificate names, or why it names
// none. Field for field it is kube-apiserver's CommonNameUserConversion: of
// several common names the last counts, and every organization is a group, in
// the order of the subject. Whether the names may be forwarded is not judged
// here but by auth.NamePolicy.
//
// For an empty common name kube-apiserver has no opinion, so that another
// credential or anonymous may follow. Here it is a fault: a certificate that
// was presented and names nobody is bad.
func userOf(cert *x509.Certificate) (user auth.User, fault string) {
	if cert.Subject.CommonName == "" {
		return user, "its subject has no common name, or an empty one"
	}
	uid, fault := uidOf(cert)
	if fault != "" {
		return user, fault
	}
	return auth.User{
		Name: cert.Subject.CommonName,
		UID:  uid,
		// A copy: the connection owns the certificate.
		Groups: slices.Clone(cert.Subject.Organization),
		Extra:  map[string][]string{auth.CredentialIDKey: {CredentialID(cert)}},
	}, ""
}

// uidOf returns the uid, or "" if the subject has none.
func uidOf(cert *x509.Certificate) (uid, fault string) {
	found := false
	for _, attribute := range cert.Subject.Names {
		if !attribute.Type.Equal(uidOID) {
			continue
		}
		value, ok := attribute.Value.(string)
		switch {
		case found:
			return "", "its subject has more than one uid"
		case !ok:
			return "", "the uid of its subject is not a string"
		case value == "":
			return "", "the uid of its subject is empty"
		}
		uid, found = value, true
	}
	return uid, ""
}
