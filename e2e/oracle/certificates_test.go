package oracle_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	kubex509 "k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/clientcert"
)

// certRow is one certificate as it is presented, and kube-apiserver's answer.
type certRow struct {
	is     string
	holder *holder
	cas    []byte    // the file of CAs; default: that of the collection
	user   auth.User // without the credential-id
	// refused are words of kube-apiserver's refusal, or of the handshake's; "":
	// it accepts. "no opinion" is what it has of a certificate that names nobody.
	refused string
	verdict
}

// certRows is a collection of rows with the CAs that they have in common. The
// running API server is given those of no other CAs.
type certRows struct {
	cas  []byte
	rows []certRow
}

// certificates returns every row, each good or bad at a moment.
func (m certMaker) certificates() certRows {
	m.t.Helper()
	root := m.issue(nil, m.authority("root"))
	second := m.issue(nil, m.authority("second root"), keyed(m.rsa()))
	third := m.issue(nil, m.authority("third root"), keyed(m.ed25519()))
	r := roots{root: root, rsa: second, edwards: third, pinned: m.issue(nil, named("alice", "dev"))}
	opensslCA, openssl := m.opensslRows()
	return certRows{
		cas: slices.Concat(root.pem(), second.pem(), third.pem(), r.pinned.pem(), opensslCA),
		rows: slices.Concat(
			m.leafRows(r), m.usageRows(r), m.trustRows(r), m.extensionRows(r), m.chainRows(r), m.constraintRows(r), m.keyRows(r),
			m.subjectRows(r), m.stringRows(r), m.wireRows(r), m.uidRows(r), m.formRows(r), m.bytesRows(r), openssl,
		),
	}
}

// roots are what the common file of CAs holds.
type roots struct{ root, rsa, edwards, pinned *holder }

// Promise: a client certificate names the user that it names in kube-apiserver,
// or is refused as there; each difference is one that the documentation names.
func TestClientCertificates(t *testing.T) {
	all := certMaker{t, now()}.certificates()
	for _, r := range all.rows {
		cas := all.cas
		if r.cas != nil {
			cas = r.cas
		}
		want := certReference(t, cas, now()).ask(r.holder)
		if fault := r.fault(want); fault != "" {
			t.Errorf("%s: the row is wrong about kube-apiserver: %s; it is %s", r.is, fault, want)
		}
		judge(t, r.is, r.verdict, want, certGatehouse(t, cas, now()).ask(r.holder))
	}
}

// fault says what kube-apiserver's answer has that r does not expect.
func (r certRow) fault(got answer) string {
	if got.user == nil || r.refused != "" {
		if r.refused == "" || got.user != nil || !strings.Contains(got.err.Error(), r.refused) {
			return fmt.Sprintf("refused should be %q", r.refused)
		}
		return ""
	}
	want := r.user
	want.Extra = map[string][]string{auth.CredentialIDKey: {fmt.Sprintf("X509SHA256=%x", sha256.Sum256(r.holder.der))}}
	return cmp.Diff(normal(want), got.user)
}

// certSide answers for a request with a client certificate.
type certSide func(*http.Request) answer

// ask gives a side what the handshake makes of h. Where the handshake fails,
// neither side is asked; the running API server shows that theirs fails too.
func (s certSide) ask(h *holder) answer {
	presented, err := h.presented()
	if err != nil {
		return answer{err: err}
	}
	return s(&http.Request{TLS: &tls.ConnectionState{PeerCertificates: presented}})
}

// certReference is kube-apiserver's x509 authenticator with a file of CAs
// (pkg/kubeapiserver/authenticator, New).
func certReference(t testing.TB, cas []byte, at time.Time) certSide {
	t.Helper()
	content, err := dynamiccertificates.NewStaticCAContent("oracle", cas)
	if err != nil {
		t.Fatal(err)
	}
	authn := kubex509.NewDynamic(func() (x509.VerifyOptions, bool) {
		options, ok := content.VerifyOptions()
		options.CurrentTime = at
		return options, ok
	}, kubex509.CommonNameUserConversion)
	return func(r *http.Request) answer {
		response, ok, err := authn.AuthenticateRequest(r)
		switch {
		case err != nil:
			return answer{err: err}
		case !ok:
			return answer{err: errors.New("no opinion")}
		}
		return answer{user: normal(referenceUser(response.User))}
	}
}

// certGatehouse is gatehouse's authenticator with a file of CAs and no CRLs.
func certGatehouse(t testing.TB, cas []byte, at time.Time) certSide {
	t.Helper()
	parsed, err := clientcert.ParseCAs(cas)
	if err != nil {
		t.Fatal(err)
	}
	live := &clientcert.Live{}
	if err := live.Swap(parsed, nil); err != nil {
		t.Fatal(err)
	}
	authn := clientcert.New(clientcert.Config{Live: live, Now: func() time.Time { return at }})
	return func(r *http.Request) answer {
		id, err := authn.Authenticate(r)
		if err != nil {
			return answer{err: err}
		}
		if err := (auth.NamePolicy{}).Check(id.Kind, &id.User); err != nil {
			return answer{err: err}
		}
		return answer{user: normal(id.User)}
	}
}
