package exchange

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Promise: whatever stands in a cache file, what is taken from it is a token with a
// bounded life of the key that was asked for, and is read again as it was.
func FuzzRecord(f *testing.F) {
	key := KeyOf("a")
	at := time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)
	good, err := writeRecord(key, &Issued{Token: "a.b.c", Type: tokenTypePrefix + jwtType, Scope: "read-only", Obtained: at, Expires: at.Add(time.Hour)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(strings.Replace(string(good), "Z", "+01:00", 1)))
	f.Add([]byte(`{"version":1,"version":1}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, content []byte) {
		issued, err := parseRecord(content, key)
		if err != nil {
			return
		}
		if _, err := parseRecord(content, KeyOf("b")); err == nil {
			t.Error("it is another key's, too")
		}
		if life := issued.Expires.Sub(issued.Obtained); !auth.IsBearerToken(issued.Token) || !isScope(issued.Scope) || life <= 0 || life > maxLifetime {
			t.Errorf("%+v", issued)
		}
		if issued.usable(issued.Expires) || issued.RenewAt().Before(issued.Obtained) {
			t.Errorf("used up to its end: %+v", issued)
		}
		again, err := writeRecord(key, issued)
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseRecord(again, key)
		if diff := cmp.Diff(issued, back); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	})
}

// Promise: whatever an exchange answers, what is taken from it is a token with a
// bounded life, and an error holds nothing that a terminal would act upon, nor the
// token that was sent.
func FuzzAnswer(f *testing.F) {
	const subject = "subject-token-of-some-length"
	for _, body := range []string{
		`{"access_token":"a.b.c","issued_token_type":"urn:ietf:params:oauth:token-type:access_token","token_type":"Bearer","expires_in":60,"scope":"read-only"}`,
		`{"error":"invalid_scope","error_description":"No."}`, `{"error":"a","error_description":"\u001b[2J` + subject + `"}`,
		`{"issuer":"https://gatehouse.example.com","token_endpoint":"https://gatehouse.example.com:443/token"}`, `[]`, ``,
	} {
		f.Add([]byte(body))
	}
	asked := time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)
	f.Fuzz(func(t *testing.T, body []byte) {
		got := &received{status: http.StatusOK, header: http.Header{"Content-Type": {"application/json"}}, body: body}
		issued, err := parseAnswer(got, asked)
		if err == nil && (!auth.IsBearerToken(issued.Token) || !isScope(issued.Scope) || !issued.Expires.After(asked) || issued.Expires.Sub(asked) > maxLifetime) {
			t.Errorf("%+v", issued)
		}
		endpoint, fault := parseMetadata(got, "https://gatehouse.example.com")
		if fault == nil && !strings.HasPrefix(strings.ToLower(endpoint), "https://gatehouse.example.com") {
			t.Errorf("endpoint %q", endpoint)
		}
		for _, err := range []error{err, fault, failureOf(got, subject)} {
			if err == nil {
				continue
			}
			text := err.Error()
			if len(text) > 6*maxShown || strings.Contains(text, subject) || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\u202e' }) {
				t.Errorf("%q", text)
			}
		}
	})
}
