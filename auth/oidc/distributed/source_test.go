package distributed

import (
	"encoding/json"
	"testing"
)

// Promise: a reference is read as kube-apiserver reads it, and one that cannot be
// followed is an error, never the same as none.
func TestFind(t *testing.T) {
	const good = `"_claim_sources":{"s":{"endpoint":"https://a.example","access_token":"t"}}`
	for _, tt := range []struct {
		name, claims string
		want         *source
		fault        bool
	}{
		{"referred", `{"_claim_names":{"groups":"s"},` + good + `}`, &source{"https://a.example", "t"}, false},
		{"no access token", `{"_claim_names":{"groups":"s"},"_claim_sources":{"s":{"endpoint":"https://a.example"}}}`, &source{endpoint: "https://a.example"}, false},
		{"members nobody knows", `{"_claim_names":{"groups":"s"},"_claim_sources":{"s":{"endpoint":"https://a.example","x":1}}}`, &source{endpoint: "https://a.example"}, false},
		{"held too", `{"groups":["a"],"_claim_names":{"groups":"s"},` + good + `}`, nil, false},
		{"held as null", `{"groups":null,"_claim_names":{"groups":"s"},` + good + `}`, nil, false},
		{"no reference", `{}`, nil, false},
		{"reference for another claim", `{"_claim_names":{"roles":"s"},` + good + `}`, nil, false},
		{"names null", `{"_claim_names":null,` + good + `}`, nil, false},
		{"names and sources empty", `{"_claim_names":{},"_claim_sources":{}}`, nil, false},
		{"sources alone", `{` + good + `}`, nil, false},

		{"no sources", `{"_claim_names":{"groups":"s"}}`, nil, true},
		{"no sources, no names", `{"_claim_names":{}}`, nil, true},
		{"sources null", `{"_claim_names":{"groups":"s"},"_claim_sources":null}`, nil, true},
		{"names of a list", `{"_claim_names":["groups"],` + good + `}`, nil, true},
		{"sources of a list", `{"_claim_names":{"groups":"s"},"_claim_sources":[]}`, nil, true},
		{"name of a number", `{"_claim_names":{"groups":1},` + good + `}`, nil, true},
		{"name null", `{"_claim_names":{"groups":null},` + good + `}`, nil, true},
		{"missing source", `{"_claim_names":{"groups":"t"},` + good + `}`, nil, true},
		{"source of a string", `{"_claim_names":{"groups":"s"},"_claim_sources":{"s":"https://a.example"}}`, nil, true},
		{"aggregated", `{"_claim_names":{"groups":"s"},"_claim_sources":{"s":{"JWT":"x"}}}`, nil, true},
		{"endpoint of a list", `{"_claim_names":{"groups":"s"},"_claim_sources":{"s":{"endpoint":["https://a.example"]}}}`, nil, true},
		{"endpoint null", `{"_claim_names":{"groups":"s"},"_claim_sources":{"s":{"endpoint":null}}}`, nil, true},
		{"endpoint in another case", `{"_claim_names":{"groups":"s"},"_claim_sources":{"s":{"endpoint":"https://a.example","Endpoint":"https://b.example"}}}`, nil, true},
		{"access token of a number", `{"_claim_names":{"groups":"s"},"_claim_sources":{"s":{"endpoint":"https://a.example","access_token":1}}}`, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var claims map[string]any
			if err := json.Unmarshal([]byte(tt.claims), &claims); err != nil {
				t.Fatal(err)
			}
			got, err := find(claims, "groups")
			if (err != nil) != tt.fault {
				t.Fatalf("error %v", err)
			}
			if (got == nil) != (tt.want == nil) || got != nil && *got != *tt.want {
				t.Errorf("found %+v, want %+v", got, tt.want)
			}
		})
	}
}

// Promise: no claims crash the reader of references, and what it finds has an
// endpoint.
func FuzzFind(f *testing.F) {
	f.Add(`{"_claim_names":{"groups":"s"},"_claim_sources":{"s":{"endpoint":"https://a.example","access_token":"t"}}}`)
	f.Add(`{"_claim_names":{"groups":"s"},"_claim_sources":{"s":{"JWT":"x"}}}`)
	f.Add(`{"_claim_names":{"groups":null},"_claim_sources":[{}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		var claims map[string]any
		if json.Unmarshal([]byte(text), &claims) != nil {
			return
		}
		if got, err := find(claims, "groups"); err == nil && got != nil && got.endpoint == "" {
			t.Errorf("%s gives a source without an endpoint", text)
		}
	})
}
