package oracle_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
)

// token makes r's token.
func (w *world) token(t testing.TB, issuer string, r row) string {
	t.Helper()
	return w.signed(r, payloadOf(t, issuer, r))
}

// signed signs a payload as r says.
func (w *world) signed(r row, payload []byte) string {
	key := w.keys["ES256"]
	if r.Key != "" {
		key = w.keys[r.Key]
	}
	if r.Raw != "" {
		return key.SignBytes([]byte(r.Raw), payload)
	}
	header := map[string]any{"alg": string(key.Algorithm), "kid": key.ID}
	maps.Copy(header, r.Header)
	maps.DeleteFunc(header, func(_ string, value any) bool { return value == nil })
	return key.SignHeader(header, payload)
}

// payloadOf is what r's token says.
func payloadOf(t testing.TB, issuer string, r row) []byte {
	t.Helper()
	if r.Payload != "" {
		return []byte(strings.ReplaceAll(r.Payload, "$ISS", issuer))
	}
	claims := map[string]any{
		"iss": issuer, "aud": audience, "sub": "alice", "iat": now().Unix() - 60, "exp": now().Unix() + 3600,
	}
	for name, value := range r.Claims {
		claims[name] = value
	}
	for _, name := range r.Without {
		delete(claims, name)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatalf("%s: %v", r.Is, err)
	}
	return payload
}
