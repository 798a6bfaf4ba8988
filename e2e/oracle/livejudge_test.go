package oracle_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// judge gives both one credential. expected says what is wrong with the answer
// of the running kube-apiserver by what the corpus knows of it.
func (p livePair) judge(t *testing.T, v verdict, ask func(livePeer) (liveAnswer, error), expected func(answer) string) {
	t.Helper()
	want, err := ask(p.direct)
	if err != nil {
		t.Fatalf("kube-apiserver: %v", err)
	}
	got, err := ask(p.through)
	if err != nil {
		t.Fatalf("gatehouse: %v", err)
	}
	if fault := expected(want.answer.withoutAuthenticated()); fault != "" {
		t.Errorf("the row is wrong about the running kube-apiserver: %s; it is %s", fault, want)
	}
	same := sameAnswer(want.answer, got.answer)
	if v.Differs == "" && movedAuthenticated(want.answer, got.answer) {
		v.Differs = authenticatedLast
	}
	count.add(func() {
		count.live++
		if same {
			count.liveSame++
		} else {
			count.liveDivergent[v.Differs]++
		}
	})
	refusedAlike := want.user == nil && want.code == got.code
	switch {
	case same && v.Differs == "" && (want.user != nil || refusedAlike):
	case same:
		t.Errorf("both the same, but for the status or %q:\nkube-apiserver %s\ngatehouse      %s", v.Differs, want, got)
	case v.Differs == "" || want.user == nil || !documented(v.Differs, want.answer, got):
		t.Errorf("%q does not explain this:\nkube-apiserver %s\ngatehouse      %s", v.Differs, want, got)
	}
}

// documented reports whether a difference can be the named one: gatehouse
// refuses by itself, or leaves out the empty group of an empty column.
func documented(topic string, want answer, got liveAnswer) bool {
	switch topic {
	case authenticatedLast:
		return movedAuthenticated(want, got.answer)
	case emptyColumn:
		return got.user != nil && want.user.Name == got.user.Name && slices.Equal(slices.DeleteFunc(slices.Clone(want.user.Groups), func(g string) bool { return g == "" }), got.user.Groups)
	}
	return got.user == nil && got.own && (got.code == http.StatusUnauthorized || got.code == http.StatusForbidden)
}

const authenticatedLast = "`system:authenticated` among the groups of a credential"

// movedAuthenticated reports whether two users differ in the place alone where
// the group system:authenticated stands.
func movedAuthenticated(want, got answer) bool {
	if want.user == nil || got.user == nil || sameAnswer(want, got) {
		return false
	}
	before, after := want.user.Groups, got.user.Groups
	if !slices.Contains(before, auth.AuthenticatedGroup) || len(after) == 0 || after[len(after)-1] != auth.AuthenticatedGroup {
		return false
	}
	return sameAnswer(want.withoutAuthenticated(), got.withoutAuthenticated())
}

// others returns the groups that the API server does not give to everybody.
func others(groups []string) []string {
	return slices.DeleteFunc(slices.Clone(groups), func(g string) bool { return g == auth.AuthenticatedGroup })
}

// withoutAuthenticated takes away the group that the API server adds to
// everybody: the libraries, which the corpus speaks of, do not add it. Where it
// stands is compared between the two servers.
func (a answer) withoutAuthenticated() answer {
	if a.user == nil {
		return a
	}
	u := *a.user
	u.Groups = others(u.Groups)
	return answer{user: normal(u)}
}

// judgeGroup judges the tokens of one configuration, once its issuer is known.
func (p livePair) judgeGroup(t *testing.T, w *world, g group) {
	issuer := w.issuerOf(g)
	p.await(t, w, g, issuer)
	for _, r := range g.Tokens {
		if _, fits := today(payloadOf(t, issuer, r)); !fits {
			continue // judged by the clock that stands
		}
		t.Run(r.Is, func(t *testing.T) {
			payload, _ := today(payloadOf(t, issuer, r))
			p.judge(t, r.verdict, bearer(t, w.signed(r, payload)), r.unworded)
		})
	}
}

// unworded is fault for an answer that does not say why, nor tell which groups
// the API server added.
func (r row) unworded(got answer) string {
	r.Because = ""
	if r.Groups != nil {
		r.Groups = others(r.Groups)
	}
	return r.fault(got)
}

// await waits until kube-apiserver, which finds its issuers in the background,
// accepts the first token of g that it should.
func (p livePair) await(t *testing.T, w *world, g group, issuer string) {
	t.Helper()
	for _, r := range g.Tokens {
		payload, fits := today(payloadOf(t, issuer, r))
		if r.Refused || !fits {
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		ask := bearer(t, w.signed(r, payload))
		for {
			got, err := ask(p.direct)
			if err == nil && got.user != nil {
				return
			}
			select {
			case <-ctx.Done():
				t.Fatalf("%s is not accepted: %s %v", r.Is, got, errors.Join(err, ctx.Err()))
			case <-time.After(50 * time.Millisecond): // nothing tells when it has found one
			}
		}
	}
}

// judgeForms judges what is done to the form of a token that a header can hold.
func (p livePair) judgeForms(t *testing.T, w *world, g group) {
	issuer := w.issuerOf(g)
	payload, _ := today(payloadOf(t, issuer, row{}))
	token := w.signed(row{}, payload)
	for _, f := range forms {
		changed := f.change(token)
		if !auth.IsBearerToken(changed) {
			continue
		}
		t.Run(f.is, func(t *testing.T) {
			p.judge(t, f.verdict, bearer(t, changed), row{Refused: f.refused}.unworded)
		})
	}
}

const emptyColumn = "fourth column there, but empty"

// csvRow is a token of the common token file, or one that is not in it.
type csvRow struct {
	is, token string
	user      *tokenUser
	verdict
}

// liveTokenFile joins the token files of the corpus that both take to one: the
// tokens of each get an ending of their own.
func liveTokenFile(t *testing.T) ([]byte, []csvRow) {
	t.Helper()
	var content bytes.Buffer
	var rows []csvRow
	writer := csv.NewWriter(&content)
	for i, f := range readCorpus[tokenFile](t, "testdata/tokenfile.yaml", nil) {
		if f.Unreadable || f.Differs != "" && f.Differs != emptyColumn {
			continue
		}
		end := "-" + strconv.Itoa(i)
		reader := csv.NewReader(strings.NewReader(f.File))
		reader.FieldsPerRecord = -1
		records, err := reader.ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, record := range records {
			record[0] += end
			if err := writer.Write(record); err != nil {
				t.Fatal(err)
			}
		}
		for token, user := range f.Ask {
			if auth.IsBearerToken(token + end) {
				rows = append(rows, csvRow{fmt.Sprintf("%d %q %q", i+1, f.File, token), token + end, user, f.verdict})
			}
		}
	}
	writer.Flush()
	return content.Bytes(), rows
}

func (p livePair) judgeCSV(t *testing.T, r csvRow) {
	p.judge(t, r.verdict, bearer(t, r.token), func(got answer) string {
		if r.user == nil {
			return row{Refused: true}.fault(got)
		}
		want := row{User: &r.user.Name, UID: r.user.UID, Groups: r.user.Groups, Extra: map[string][]string{}}
		return want.unworded(got)
	})
}

func (p livePair) judgeCert(t *testing.T, r certRow) {
	p.judge(t, r.verdict, credentials(t, r.holder), func(got answer) string {
		if r.refused != "" && got.user == nil {
			return ""
		}
		r.user.Groups = others(r.user.Groups)
		return r.fault(got)
	})
}
