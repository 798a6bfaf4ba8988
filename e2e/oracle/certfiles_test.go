package oracle_test

import (
	"bytes"
	"encoding/pem"
	"testing"

	"k8s.io/apiserver/pkg/server/dynamiccertificates"

	"github.com/kube-gatehouse/gatehouse/auth/clientcert"
)

const otherText = "other text, or a damaged certificate, in the CA file"

// join returns strings and bytes, one behind the other.
func join(parts ...any) (content []byte) {
	for _, part := range parts {
		switch part := part.(type) {
		case string:
			content = append(content, part...)
		case []byte:
			content = append(content, part...)
		}
	}
	return content
}

// caFile is a file of CAs, with their verdict.
type caFile struct {
	is      string
	content []byte
	refused bool // by kube-apiserver
	verdict
}

// caFiles are files with root, or leaf, and other things.
func (m certMaker) caFiles(root, leaf *holder) []caFile {
	other := m.issue(nil, m.authority("other"))
	block := func(kind string, headers map[string]string) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Headers: headers, Bytes: other.der})
	}
	cutOff := other.pem()[:200]
	return []caFile{
		{is: "one", content: root.pem()},
		{is: "two", content: join(other.pem(), root.pem())},
		{is: "no newline at the end", content: bytes.TrimSpace(root.pem())},
		{is: "CRLF", content: bytes.ReplaceAll(root.pem(), []byte("\n"), []byte("\r\n"))},
		{is: "comments and empty lines", content: join("# the root\n\n", root.pem(), "\n  \n# another\n", other.pem())},
		{is: "a leaf as CA", content: leaf.pem()},
		{is: "empty", content: nil, refused: true},
		{is: "white space", content: []byte(" \n\n"), refused: true},
		{is: "no PEM", content: []byte("root\n"), refused: true},
		{is: "DER", content: root.der, refused: true},
		{is: "no certificate among the blocks", content: block("PUBLIC KEY", nil), refused: true},
		{is: "a block that is no certificate", content: join(root.pem(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})), refused: true},
		{is: "other text", content: join("the root:\n", root.pem()), verdict: verdict{Differs: otherText}},
		{is: "text behind", content: join(root.pem(), "this was the root\n"), verdict: verdict{Differs: otherText}},
		{is: "a private key beside", content: join(root.pem(), block("PRIVATE KEY", nil)), verdict: verdict{Differs: otherText}},
		{is: "a trusted certificate beside", content: join(root.pem(), block("TRUSTED CERTIFICATE", nil)), verdict: verdict{Differs: otherText}},
		{is: "a block with headers", content: join(root.pem(), block("CERTIFICATE", map[string]string{"Name": "other"})), verdict: verdict{Differs: otherText}},
		{is: "a damaged one before", content: join(cutOff, "\n", root.pem()), verdict: verdict{Differs: otherText}},
		{is: "a damaged one behind", content: join(root.pem(), cutOff), verdict: verdict{Differs: otherText}},
		{is: "a letter that is no base64", content: join(root.pem(), bytes.Replace(other.pem(), []byte("MII"), []byte("M!I"), 1)), verdict: verdict{Differs: otherText}},
	}
}

// Promise: a file of client CAs is trusted as kube-apiserver trusts it, or is
// refused for the reason that the documentation names.
func TestClientCAFiles(t *testing.T) {
	m := certMaker{t, now()}
	root := m.issue(nil, m.authority("root"))
	leaf := m.issue(root, named("alice", "dev"))
	for _, row := range m.caFiles(root, leaf) {
		var want, got answer
		if _, want.err = dynamiccertificates.NewStaticCAContent("oracle", row.content); want.err == nil {
			want = certReference(t, row.content, now()).ask(leaf)
		}
		if row.refused && want.user != nil {
			t.Errorf("%s: the row is wrong about kube-apiserver: %s", row.is, want)
		}
		if _, got.err = clientcert.ParseCAs(row.content); got.err == nil {
			got = certGatehouse(t, row.content, now()).ask(leaf)
		}
		judgeCAFile(t, row.is, row.verdict, want, got)
	}
}

func judgeCAFile(t *testing.T, is string, v verdict, want, got answer) {
	t.Helper()
	same := sameAnswer(want, got)
	count.add(func() {
		count.rows++
		if same {
			count.same++
		} else {
			count.divergent[v.Differs]++
		}
	})
	if same != (v.Differs == "") || v.Differs != "" && (want.user == nil || got.user != nil) {
		t.Errorf("%s: %q\nkube-apiserver %s\ngatehouse      %s", is, v.Differs, want, got)
	}
}
