package revocation_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/revocation"
)

// Promise: what YAML allows and means what it says is accepted.
func TestParseGood(t *testing.T) {
	for _, tt := range []struct{ name, content string }{
		{"block", "# why\nrevoked:\n- user: alice # who\n"},
		{"indented", "revoked:\n  - user: alice\n"},
		{"JSON", `{"revoked": [{"user": "alice"}]}` + "\n"},
		{"document marks", "---\nrevoked:\n- user: alice\n...\n"},
		{"CRLF", "revoked:\r\n- user: alice\r\n"},
		{"quotes", "'revoked':\n- \"user\": 'alice'\n"},
		{"escapes", "revoked:\n- user: \"\\u0061lice\"\n"},
		{"count", "count: 1\nrevoked:\n- user: alice\n"},
		{"twice", "revoked:\n- user: alice\n- user: alice\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id := static("alice")
			if list := parse(t, tt.content); !denied(t, id, list.Check(id)) {
				t.Error("alice passed")
			}
		})
	}
}

// Promise: a file that says something else than it seems to say, or nothing, is
// refused, with the path to each fault, and without a value in the message.
func TestParseBad(t *testing.T) {
	hex63 := strings.Repeat("a", 63)
	for _, tt := range []struct {
		name, content string
		want          []string // each in the error
	}{
		{"empty", "", []string{"the file is empty", "revoked: []"}},
		{"blank", "\n \n", []string{"nothing but comments", "revoked: []"}},
		{"comments", "# canary\n", []string{"nothing but comments"}},
		{"empty document", "---\n", []string{"must be a mapping with some"}},
		{"no revoked", "count: 0\n", []string{"revoked: is missing", "revoked: []"}},
		{"empty mapping", "{}\n", []string{"revoked: is missing"}},
		{"revoked cut off", "revoked:\n", []string{"line 1: revoked: has no value", "revoked: []"}},
		{"revoked null", "revoked: ~\n", []string{"revoked: has no value"}},
		{"revoked a mapping", "revoked:\n  user: canary\n", []string{"line 2: revoked: must be a list"}},
		{"a list", "- user: canary\n", []string{"line 1: must be a mapping with some of the fields revoked, count"}},
		{"a text", "canary\n", []string{"must be a mapping"}},
		{"no newline", "revoked:\n- user: canary", []string{"line 2: ", "cut off"}},
		{"BOM", "\xef\xbb\xbfrevoked: []\n", []string{"byte order mark"}},
		{"UTF-16", "\xff\xfer\x00e\x00\n\x00\n", []string{"UTF-8"}},
		{"not UTF-8", "revoked:\n- user: canary\xe9\n", []string{"UTF-8"}},
		{"not YAML", "revoked: [\n", []string{"not YAML: line "}},
		{"tab", "revoked:\n\t- user: canary\n", []string{"not YAML: line 2"}},
		{"second document", "revoked: []\n---\nrevoked: []\n", []string{"second YAML document"}},
		{"second empty document", "revoked: []\n---\n", []string{"second YAML document"}},
		{"broken second document", "revoked: []\n---\n[\n", []string{"not YAML"}},
		{"unknown top field", "revoke: []\n", []string{`line 1: unknown field "revoke": did you mean revoked?`, "revoked: is missing"}},
		{"duplicate top field", "revoked:\n- user: canary\nrevoked: []\n", []string{"line 3: revoked: stands on line 1 already"}},
		{"count wrong", "count: 2\nrevoked:\n- user: canary\n", []string{"line 1: count: is 2, and the file has 1 entries"}},
		{"count text", "count: \"1\"\nrevoked:\n- user: canary\n", []string{"count: must be the number"}},
		{"count list", "count: [1]\nrevoked:\n- user: canary\n", []string{"count: must be the number"}},
		{"entry a text", "revoked:\n- canary\n", []string{"line 2: revoked[0]: must be a mapping"}},
		{"entry null", "revoked:\n- user: canary\n-\n", []string{"line 3: revoked[1]: must be a mapping"}},
		{"entry empty", "revoked:\n- {}\n", []string{"revoked[0]: names nothing to revoke: add one of jti"}},
		{"note alone", "revoked:\n- note: canary\n", []string{"revoked[0]: names nothing"}},
		{"issuer alone", "revoked:\n- issuer: canary\n", []string{"revoked[0]: names an issuer and nothing of it"}},
		{"certificate issuer alone", "revoked:\n- certificateIssuer: CN=canary\n", []string{"no certificate of it"}},
		{"two things", "revoked:\n- {user: canary, jti: canary}\n", []string{"revoked[0]: names several things (jti, user): make an entry of each"}},
		{"subject alone", "revoked:\n- subject: canary\n", []string{"revoked[0]: subject needs issuer: "}},
		{"serial alone", "revoked:\n- certificateSerial: \"0A\"\n", []string{"certificateSerial needs certificateIssuer"}},
		{"issuer of a user", "revoked:\n- {user: canary, issuer: canary}\n", []string{"revoked[0].issuer: goes with jti and subject alone, not with user"}},
		{"certificate issuer of a jti", "revoked:\n- {jti: canary, certificateIssuer: CN=canary}\n", []string{"revoked[0].certificateIssuer: goes with certificateSerial alone"}},
		{"one token since", "revoked:\n- {jti: canary, issuedBefore: 2026-11-23T12:00:00Z}\n", []string{"revoked[0].issuedBefore: does not go with jti"}},
		{"one certificate since", "revoked:\n- {certificateSHA256: " + fingerprint + ", issuedBefore: 2026-11-23T12:00:00Z}\n", []string{"revoked[0].issuedBefore: does not go with certificateSHA256"}},
		{"duplicate field", "revoked:\n- user: canary\n  user: alice\n", []string{"line 3: revoked[0].user: stands on line 2 already"}},
		{"duplicate field by escape", "revoked:\n- {user: canary, \"\\u0075ser\": alice}\n", []string{"revoked[0].user: stands on"}},
		{"other case", "revoked:\n- User: canary\n", []string{`revoked[0]: unknown field "User": did you mean user?`}},
		{"misspelled", "revoked:\n- {user: canary, issuedbefor: canary}\n", []string{`unknown field "issuedbefor": did you mean issuedBefore?`}},
		{"short name", "revoked:\n- {sub: canary, iss: canary}\n", []string{"did you mean subject?", "did you mean issuer?"}},
		{"unknown field", "revoked:\n- {user: canary, zzz: canary}\n", []string{`unknown field "zzz": known are jti, `}},
		{"long unknown field", "revoked:\n- " + strings.Repeat("canary", 9) + ": x\n", []string{"revoked[0]: unknown field\n"}},
		{"field name a list", "revoked:\n- ? [canary]\n  : x\n", []string{"revoked[0]: the name of a field must be a text"}},
		{"merge key", "revoked:\n- {user: canary, <<: {issuedBefore: x}}\n", []string{`unknown field "<<"`}},
		{"jti a token", "revoked:\n- jti: eyJcanary.eyJcanary.canary\n", []string{"revoked[0].jti: is a whole token"}},
		{"jti with prefix", "revoked:\n- jti: JTI=canary\n", []string{"revoked[0].jti: begins with JTI="}},
		{"credential-id without prefix", "revoked:\n- credentialID: canary\n", []string{"revoked[0].credentialID: must be JTI= or X509SHA256="}},
		{"credential-id of nothing", "revoked:\n- credentialID: JTI=\n", []string{"revoked[0].credentialID: must be"}},
		{"credential-id too short", "revoked:\n- credentialID: X509SHA256=abc\n", []string{"credentialID: after X509SHA256= has 3 hex digits where a SHA-256 has 64"}},
		{"SHA-1", "revoked:\n- certificateSHA256: " + strings.Repeat("ab", 20) + "\n", []string{"has 40 hex digits", "-fingerprint -sha256"}},
		{"63 digits", "revoked:\n- certificateSHA256: " + hex63 + "\n", []string{"has 63 hex digits"}},
		{"no hex", "revoked:\n- certificateSHA256: " + hex63 + "g\n", []string{"revoked[0].certificateSHA256: must be hex digits"}},
		{"odd colons", "revoked:\n- certificateSHA256: a:" + hex63 + "\n", []string{"two hex digits between colons"}},
		{"no hex serial", "revoked:\n- {certificateSerial: canary, certificateIssuer: CN=canary}\n", []string{"revoked[0].certificateSerial: must be hex digits"}},
		{"negative serial", "revoked:\n- {certificateSerial: \"-0A\", certificateIssuer: CN=canary}\n", []string{"revoked[0].certificateSerial: must be hex digits"}},
		{"no name", "revoked:\n- {certificateSerial: \"0A\", certificateIssuer: canary}\n", []string{"revoked[0].certificateIssuer: a part of the name has no =", "-nameopt RFC2253"}},
		{"date alone", since("2026-11-23"), []string{"revoked[0].issuedBefore: must be a date and time with its zone"}},
		{"no zone", since("2026-11-23T12:00:00"), []string{"with its zone"}},
		{"no T", since("2026-11-23 12:00:00Z"), []string{"with its zone"}},
		{"Unix time", since("1795000000"), []string{"with its zone"}},
		{"no such day", since("2026-02-30T12:00:00Z"), []string{"with its zone"}},
		{"fraction", since("2026-11-23T12:00:00.5Z"), []string{"a whole second"}},
		{"no moment", since(""), []string{"revoked[0].issuedBefore: has no value"}},
		{"moment a list", since("[2026-11-23T12:00:00Z]"), []string{"with its zone"}},
		{"empty note", "revoked:\n- {user: canary, note: \"\"}\n", []string{"revoked[0].note: is empty"}},
		{"null note", "revoked:\n- {user: canary, note: }\n", []string{"revoked[0].note: is empty"}},
		{"note a list", "revoked:\n- {user: canary, note: [a]}\n", []string{"revoked[0].note: must be a text"}},
		{"long note", "revoked:\n- {user: canary, note: \"" + strings.Repeat("x", 1025) + "\"}\n", []string{"revoked[0].note: has 1025 bytes"}},
		{"alias", "revoked:\n- &canary {user: alice}\n- *canary\n", []string{"line 2: revoked[0]: an anchor", "line 3: revoked[1]: an alias"}},
		{"alias of nothing", "revoked:\n- user: *canary\n", []string{"not YAML: an alias of nothing"}},
		{"tag", "revoked:\n- user: !!str canary\n", []string{"revoked[0].user: a tag"}},
		{"tagged note", "revoked:\n- {user: canary, note: !x canary}\n", []string{"revoked[0].note: a tag"}},
		{"binary", "revoked:\n- user: !!binary YWxpY2U=\n", []string{"revoked[0].user: a tag"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list, err := revocation.Parse([]byte(tt.content))
			if err == nil || list != nil {
				t.Fatalf("accepted, or a list beside error %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error()+"\n", want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("error %q quotes a value", err)
			}
		})
	}
}

func since(moment string) string {
	return "revoked:\n- user: canary\n  issuedBefore: " + moment + "\n"
}

// Promise: a text that YAML takes for something else is not guessed at; in
// quotes every digit of it counts.
func TestNotText(t *testing.T) {
	for text, meaning := range map[string]string{
		"42": "a number", "0123": "a number", "1e5": "a number", "0x1F": "a number", "0o17": "a number",
		".5": "a number", ".nan": "a number", "-1": "a number", "1_000": "a number", "104857600012345678901": "a number",
		"1.0485760001234568e+20": "a number", "true": "true or false", "False": "true or false",
		"2026-11-23": "a date", "2026-11-23T12:00:00Z": "a date", "<<": "something else than a text",
	} {
		file := func(value string) string {
			return fmt.Sprintf("revoked:\n- issuer: %s\n  subject: %s\n", login, value)
		}
		_, err := revocation.Parse([]byte(file(text)))
		if want := "line 3: revoked[0].subject: is " + meaning + " to YAML: put the text in quotes"; err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %s", text, err, want)
		}
		id := token(login, text, "1", noon)
		if list := parse(t, file(`"`+text+`"`)); !denied(t, id, list.Check(id)) {
			t.Errorf("%q in quotes passed", text)
		}
	}
	for _, text := range []string{"", "~", "null", "Null", `""`, `" "`, `" a"`, `"a\n"`, `"a\tb"`, `"\u00a0a"`, `"\uFFFD"`, "[a]", "{a: b}", "|\n    a\n"} {
		for _, field := range []string{"jti", "issuer", "subject", "credentialID", "user", "certificateSHA256", "certificateSerial", "certificateIssuer"} {
			_, err := revocation.Parse([]byte("revoked:\n- " + field + ": " + text + "\n"))
			if err == nil || !strings.Contains(err.Error(), "revoked[0]."+field+": ") {
				t.Errorf("%s: %s: error %v", field, text, err)
			}
		}
	}
}

// Promise: all faults are told at once, in their order, and so many that a log
// can take them.
func TestAllFaults(t *testing.T) {
	const file = "cont: 1\nrevoked:\n- usr: a\n- user: 42\n  issuedBefore: noon\n- user: ok\n- {subject: a, note: ''}\n"
	const want = `line 1: unknown field "cont": did you mean count?
line 3: revoked[0]: unknown field "usr": did you mean user?
line 3: revoked[0]: names nothing to revoke: add one of jti, credentialID, user, subject, certificateSHA256, certificateSerial
line 4: revoked[1].user: is a number to YAML: put the text in quotes
line 5: revoked[1].issuedBefore: must be a date and time with its zone (RFC 3339), such as 2026-11-23T12:00:00Z or 2026-11-23T13:00:00+01:00
line 7: revoked[3]: subject needs issuer: other issuers may have the same subject
line 7: revoked[3].note: is empty: leave it out`
	for range 3 {
		if _, err := revocation.Parse([]byte(file)); err == nil || err.Error() != want {
			t.Fatalf("error\n%v\nwant\n%s", err, want)
		}
	}
	_, err := revocation.Parse([]byte("revoked:\n" + strings.Repeat("- user: 1\n", 1234)))
	if err == nil || strings.Count(err.Error(), "\n") != 100 || !strings.HasSuffix(err.Error(), "and 1134 more faults") {
		t.Errorf("error %.300v", err)
	}
}

// Promise: a file that was cut off anywhere is refused if it tells its count or
// is JSON, and in any case if the cut is within a line.
func TestCutOff(t *testing.T) {
	const list = "revoked:\n- user: alice\n  note: x\n- user: bob\n"
	for name, file := range map[string]string{
		"count first": "count: 2\n" + list, "JSON": "{\"revoked\": [\n{\"user\": \"alice\"},\n{\"user\": \"bob\"}\n]}\n", "plain": list,
	} {
		parse(t, file)
		for n := range len(file) {
			if _, err := revocation.Parse([]byte(file[:n])); err == nil && (name != "plain" || file[n-1] != '\n') {
				t.Errorf("%s: accepted when cut to %q", name, file[:n])
			}
		}
	}
}

// Promise: a file that is made to cost much costs little.
func TestBombs(t *testing.T) {
	laughs := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'p'; c++ {
		laughs += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 9), ","))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for name, file := range map[string]string{
		"aliases": laughs + "revoked: *p\n",
		"cycle":   "revoked: &a [*a]\n",
		"deep":    "revoked: " + strings.Repeat("[", 200_000) + "\n",
		"blocks":  "revoked:\n" + strings.Repeat("- ", 200_000) + "\n",
		"large":   "revoked: []\n" + strings.Repeat("#", revocation.MaxBytes) + "\n",
		"flow":    "revoked: [" + strings.Repeat("a,", 8_000_000) + "]\n",
		"lines":   "revoked:\n" + strings.Repeat("-\n", 8_000_000),
		"nested":  "revoked: [" + strings.Repeat("[],", 5_000_000) + "]\n",
		"pairs":   "revoked: {" + strings.Repeat("{},", 5_000_000) + "}\n",
	} {
		if _, err := revocation.Parse([]byte(file)); err == nil || len(err.Error()) > 10_000 {
			t.Errorf("%s: error %.1000v", name, err)
		}
	}
	if _, err := revocation.Parse([]byte("revoked: []\n#" + strings.Repeat("x", revocation.MaxBytes-14) + "\n")); err != nil {
		t.Errorf("a file of the greatest size: %v", err)
	}
	runtime.ReadMemStats(&after)
	if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > 1000 {
		t.Errorf("%d MiB allocated", used)
	}
}

// Promise: every user whom gatehouse lets pass can be named in the file.
func TestEveryUserCanBeNamed(t *testing.T) {
	for _, name := range []string{"alice", "system:anonymous", "a b", "\u200balice", "a\u00a0b", "#1", "- a", "é", "42", "x: y", "\U0001F600", `a"b\c`} {
		id := static(name)
		if err := (auth.NamePolicy{AllowedReserved: []string{name}}).Check(id.Kind, &id.User); err != nil {
			t.Fatal(err)
		}
		if list := parse(t, fmt.Sprintf("revoked:\n- user: %q\n", name)); !denied(t, id, list.Check(id)) {
			t.Errorf("%q passed", name)
		}
	}
}
