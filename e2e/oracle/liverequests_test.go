package oracle_test

import (
	"slices"
	"testing"
)

// requestRow is a request with several credentials, or with one in a form of
// its own. The token is robot's,
// and the certificates name alice or are bad. A difference is named by its row in docs/divergences.md.
type requestRow struct {
	is      string
	headers []string // Authorization
	holder  *holder
	user    string // "": kube-apiserver refuses
	verdict
}

// What robot has in the token file.
const robotToken, robotRow = "robot-secret", "robot-secret,robot,7,g\n"

func (m certMaker) requestRows() (cas []byte, rows []requestRow) {
	root := m.issue(nil, m.authority("requests"))
	good := m.issue(root, named("alice"))
	nameless := m.issue(root, m.subject(org("g")))
	stranger := m.issue(nil, named("alice"))
	const bearerGood, bearerBad = "Bearer " + robotToken, "Bearer nobody"
	return root.pem(), []requestRow{
		{is: "no credential"},
		{is: "token", headers: []string{bearerGood}, user: "robot"},
		{is: "scheme in small letters", headers: []string{"bearer " + robotToken}, user: "robot"},
		{is: "scheme in capitals", headers: []string{"BEARER " + robotToken}, user: "robot"},
		{is: "unknown token", headers: []string{bearerBad}},
		{is: "token without a scheme", headers: []string{robotToken}},
		{is: "another scheme", headers: []string{"Basic " + robotToken}},
		{is: "scheme alone", headers: []string{"Bearer"}},
		{is: "empty header", headers: []string{""}},
		{is: "two spaces before the token", headers: []string{"Bearer  " + robotToken}},
		{is: "tab before the token", headers: []string{"Bearer\t" + robotToken}},
		{is: "white space around", headers: []string{" " + bearerGood + " "}, user: "robot"},
		{is: "words after the token", headers: []string{bearerGood + " x"}, user: "robot", verdict: verdict{"words after the token"}},
		{is: "two headers, the first good", headers: []string{bearerGood, bearerBad}, user: "robot", verdict: verdict{"several `Authorization` headers"}},
		{is: "two headers, the first bad", headers: []string{bearerBad, bearerGood}},
		{is: "the same header twice", headers: []string{bearerGood, bearerGood}, user: "robot", verdict: verdict{"several `Authorization` headers"}},
		{is: "certificate", holder: good, user: "alice"},
		{is: "certificate and token", holder: good, headers: []string{bearerGood}, user: "alice"},
		{is: "certificate and bad token", holder: good, headers: []string{bearerBad}, user: "alice", verdict: verdict{"good certificate beside a token"}},
		{is: "certificate of nobody", holder: stranger},
		{is: "certificate of nobody and token", holder: stranger, headers: []string{bearerGood}, user: "robot", verdict: verdict{"certificate that is not accepted"}},
		{is: "certificate of nobody and bad token", holder: stranger, headers: []string{bearerBad}},
		{is: "certificate without a name", holder: nameless},
		{is: "certificate without a name and token", holder: nameless, headers: []string{bearerGood}, user: "robot", verdict: verdict{"no common name, or an empty one"}},
	}
}

func (p livePair) judgeRequest(t *testing.T, r requestRow) {
	if topic := r.Differs; topic != "" && !slices.Contains(documentedTopics(t), topic) {
		t.Errorf("docs/divergences.md has no row %q", topic)
	}
	p.judge(t, r.verdict, credentials(t, r.holder, r.headers...), func(got answer) string {
		if (got.user == nil) != (r.user == "") || got.user != nil && got.user.Name != r.user {
			return "the user should be " + r.user
		}
		return ""
	})
}
