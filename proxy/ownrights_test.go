package proxy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy"
)

const (
	ownAccount = "system:serviceaccount:gatehouse:gatehouse"
	pastIt     = "X-Kubernetes-PF-FlowSchema-UID" // as kube-apiserver writes it
)

// forbidden writes a Status as kube-apiserver does, in one of its encodings.
func forbidden(encoding, message string) []byte {
	quoted, err := json.Marshal(message)
	if err != nil {
		panic(err)
	}
	switch encoding {
	case "application/json":
		return fmt.Appendf(nil, `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":%s,"reason":"Forbidden","details":{},"code":403}`+"\n", quoted)
	case "application/yaml":
		folded := strings.Replace(message, " cannot", "\n  cannot", 1)
		return fmt.Appendf(nil, "apiVersion: v1\ncode: 403\nkind: Status\nmessage: '%s'\nmetadata: {}\nreason: Forbidden\nstatus: Failure\n", folded)
	case "application/vnd.kubernetes.protobuf":
		return fmt.Appendf(nil, "k8s\x00\n\x0c\n\x02v1\x12\x06Status\x12\x90\x01\n\x06\n\x00\x12\x00\x1a\x00\x12\x07Failure\x1a%c%s\"\tForbidden0\x93\x03\x1a\x00\"\x00", byte(len(message)), message)
	default: // application/cbor
		return fmt.Appendf(nil, "\xd9\xd9\xf7\xa7dkindfStatusgmessagey%c%c%s", byte(len(message)>>8), byte(len(message)), message)
	}
}

// Promise: what the API server refuses to gatehouse's own account before it is
// ready is told as that, and clients send it again.
func TestOwnRightsBeforeReady(t *testing.T) {
	t.Parallel()
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		g := newGateFor(t, 2, auth.Bearer(users{}), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write(forbidden("application/json", `forbidden: User "`+ownAccount+`" cannot impersonate-on:user-info:get path "/version"`))
		}, func(cfg *proxy.Config) { cfg.NotReady = func() bool { return true } })
		resp, err := g.client(2).Do(g.request(method, "/version", "alice"))
		if err != nil {
			t.Fatal(err)
		}
		wantOwnAnswer(t, resp, http.StatusServiceUnavailable, "not ready to serve yet")
		if resp.Header.Get("Retry-After") != "1" {
			t.Errorf("%s: the header is %v, want Retry-After", method, resp.Header)
		}
		_ = resp.Body.Close()
		if g.count("gatehouse_upstream_errors_total", map[string]string{"reason": "unreachable"}) != 1 || g.refusedUs.Load() != 0 {
			t.Errorf("%s: it was not counted, or taken for a lack of rights", method)
		}
	}
}

// Promise: what the API server refuses to gatehouse's own account is not told as
// the caller's fault, nor is the account named, in whatever encoding it comes and
// whether the account's name is known or not; the operator is told all of it.
func TestOwnRightsAreNotTheCallers(t *testing.T) {
	t.Parallel()
	for _, self := range []string{ownAccount, ""} {
		for _, message := range []string{
			`forbidden: User "` + ownAccount + `" cannot impersonate-on:user-info:get path "/version"`,
			`users.authentication.k8s.io "alice" is forbidden: User "` + ownAccount + `" cannot impersonate:user-info resource "users" in API group "authentication.k8s.io" at the cluster scope`,
			`groups "dev" is forbidden: User "` + ownAccount + `" cannot impersonate resource "groups" in API group "" at the cluster scope`,
		} {
			for _, encoding := range []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/cbor"} {
				for _, protocol := range []int{1, 2} {
					g := newGate(t, protocol, func(w http.ResponseWriter, _ *http.Request) {
						w.Header().Set("Content-Type", encoding)
						w.WriteHeader(http.StatusForbidden)
						_, _ = w.Write(forbidden(encoding, message))
					})
					g.self = self
					resp, err := g.client(protocol).Do(g.request(http.MethodGet, "/version", "alice"))
					if err != nil {
						t.Fatal(err)
					}
					wantOwnAnswer(t, resp, 502, "Yours are not at fault")
					if strings.Contains(fmt.Sprint(resp.Header), "serviceaccount") || resp.Header.Get("Retry-After") != "" {
						t.Errorf("the header says too much: %v", resp.Header)
					}
					_ = resp.Body.Close()
					log := string(g.log.Bytes())
					if g.count("gatehouse_upstream_errors_total", map[string]string{"reason": "own_rights"}) != 1 || g.refusedUs.Load() != 1 {
						t.Errorf("%s: it was not counted, or nobody heard of it", encoding)
					}
					if !strings.Contains(log, ownAccount) || !strings.Contains(log, "cannot impersonate") || !strings.Contains(log, `"certain":true`) {
						t.Errorf("%s: the operator is not told:\n%s", encoding, log)
					}
				}
			}
		}
	}
}

// Promise: a 403 about the caller passes byte for byte, however it is spelt, and
// so does every answer that is no 403.
func TestOtherRefusalsPass(t *testing.T) {
	t.Parallel()
	about := func(user string) string { return `pods is forbidden: User "` + user + `" cannot list resource "pods"` }
	for name, tt := range map[string]struct {
		code   int
		body   []byte
		header bool // that of what is past impersonation
	}{
		"about the caller":         {403, forbidden("application/json", about("alice")), true},
		"no Status":                {403, []byte("<html>no</html>"), false},
		"empty":                    {403, nil, false},
		"large":                    {403, bytes.Repeat([]byte("no "), 1<<18), false},
		"as large as is looked at": {403, bytes.Repeat([]byte("x"), 16<<10), false},
		"about the caller's right": {403, forbidden("application/json", `User "bob" cannot impersonate`), true},
		"the name in a name":       {403, forbidden("application/json", `pods "x User \"`+ownAccount+`\" cannot y" is forbidden: User "alice" cannot get`), true},
		"another account's name":   {403, forbidden("application/json", about(ownAccount+"-2")), true},
		"not found":                {404, forbidden("application/json", about(ownAccount)), false},
	} {
		for _, protocol := range []int{1, 2} {
			g := newGate(t, protocol, func(w http.ResponseWriter, _ *http.Request) {
				if tt.header {
					w.Header().Set(pastIt, "1")
				}
				w.WriteHeader(tt.code)
				for part := range bytesIn(tt.body, 1000) {
					_, _ = w.Write(part)
					_ = http.NewResponseController(w).Flush()
				}
			})
			g.self = ownAccount
			resp, err := g.client(2).Do(g.request(http.MethodGet, "/api/v1/pods", "alice"))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.StatusCode != tt.code || !bytes.Equal(got, tt.body) {
				t.Errorf("%s: %d with %d bytes, %v; want %d with %d", name, resp.StatusCode, len(got), err, tt.code, len(tt.body))
			}
		}
	}
}

func bytesIn(all []byte, size int) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(all) > 0 {
			n := min(size, len(all))
			if !yield(all[:n]) {
				return
			}
			all = all[n:]
		}
	}
}

// Promise: what an application behind the API server writes raises no alarm: its
// own callers are told a neutral sentence, and that is all.
func TestForgedRefusalRaisesNoAlarm(t *testing.T) {
	t.Parallel()
	for path, header := range map[string]bool{
		"/api/v1/namespaces/d/pods/evil/proxy/x": false, // a long-running request does not have the header
		"/apis/evil.example/v1/things":           true,  // an aggregated API's answer does
	} {
		g := newGate(t, 2, func(w http.ResponseWriter, _ *http.Request) {
			if header {
				w.Header().Set(pastIt, "1")
			}
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write(forbidden("application/json", `forbidden: User "`+ownAccount+`" cannot impersonate-on:user-info:get path "/x"`))
		})
		g.self = ownAccount
		resp, err := g.client(2).Do(g.request(http.MethodGet, path, "alice"))
		if err != nil {
			t.Fatal(err)
		}
		wantOwnAnswer(t, resp, 502, "Yours are not at fault")
		_ = resp.Body.Close()
		if g.count("gatehouse_upstream_errors_total", nil) != 0 || g.refusedUs.Load() != 0 {
			t.Errorf("%s: it raised an alarm", path)
		}
		if !strings.Contains(string(g.log.Bytes()), `"certain":false`) {
			t.Errorf("%s: the log does not say that it is not certain", path)
		}
	}
}

// Promise: looking at a 403 holds no stream: what comes slowly is passed on as it
// comes.
func TestSlowRefusalIsNotHeld(t *testing.T) {
	t.Parallel()
	more := make(chan struct{})
	g := newGate(t, 2, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		for _, part := range []string{"one", "two", "three"} {
			_, _ = io.WriteString(w, part)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-more:
			case <-r.Context().Done():
			}
		}
	})
	began := time.Now()
	resp, err := g.client(2).Do(g.request(http.MethodGet, "/api/v1/namespaces/d/pods/p/proxy/", "alice"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the header was held for %s", took)
	}
	more <- struct{}{} // lets "two" come, and with it "one", which was looked at
	for _, want := range []string{"one", "two", "three"} {
		got := make([]byte, len(want))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want {
			t.Fatalf("%q, %v, want %q", got, err, want)
		}
		if want == "two" {
			more <- struct{}{}
		}
	}
}

// A ServiceAccount's own token is judged by the API server: its 403 is the
// account's own, and passes.
func TestRefusalOfAPassedTokenPasses(t *testing.T) {
	t.Parallel()
	body := forbidden("application/json", `forbidden: User "`+ownAccount+`" cannot get path "/x"`)
	g := newGateFor(t, 2, auth.Bearer(accounts), func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write(body)
	})
	g.self = ownAccount
	resp, err := g.client(2).Do(g.request(http.MethodGet, "/x", "t"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, body) {
		t.Errorf("%q, %v", got, err)
	}
}

// Promise: where gatehouse's account may name users and not do everything for
// them, people are told that nobody may do this here; nothing is wrong.
func TestNarrowDoor(t *testing.T) {
	t.Parallel()
	for mayName, want := range map[bool]struct {
		code    int
		says    string
		counted float64
	}{true: {403, "This is not offered here for anybody", 0}, false: {502, "Yours are not at fault", 1}} {
		g := newGateFor(t, 2, auth.Bearer(users{}), func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write(forbidden("application/json", `configmaps is forbidden: User "`+ownAccount+`" cannot impersonate-on:user-info:create resource "configmaps"`))
		}, func(cfg *proxy.Config) { cfg.MayName = func() bool { return mayName } })
		g.self = ownAccount
		resp, err := g.client(2).Do(g.request(http.MethodPost, "/api/v1/namespaces/d/configmaps", "alice"))
		if err != nil {
			t.Fatal(err)
		}
		wantOwnAnswer(t, resp, want.code, want.says)
		_ = resp.Body.Close()
		if got := g.count("gatehouse_upstream_errors_total", map[string]string{"reason": "own_rights"}); got != want.counted {
			t.Errorf("may name %t: counted %v", mayName, got)
		}
	}
}
