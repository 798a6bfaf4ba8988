package main

import (
	"io"
	"net/http"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

// Promise: the token of gatehouse's own account opens nothing, not even right
// after the token file came to hold that of another account, while the API server
// has not been asked whose it is.
func TestOwnAccountOfANewToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cluster := w.newIssuer(t)
	const formerName = "system:serviceaccount:gatehouse:former"
	token := func(name, jti string) string {
		return cluster.Token(authtest.Claims{"sub": name, "aud": []string{apiAudience}, "jti": jti})
	}
	p := &parts{settings: settings{Kubeconfig: w.path("kubeconfig")}}
	w.write(t, "token", token(formerName, "1"))
	w.write(t, "kubeconfig", kubeconfig(w.upstream.URL, "ca.crt", "tokenFile: token"))
	target, err := p.findUpstream()
	if err != nil {
		t.Fatal(err)
	}
	var self selfName
	self.known.Store(&selfAt{target, target.Authorization(), formerName})
	for _, next := range []struct{ token, want string }{
		{token(formerName, "2"), formerName}, // it is renewed every hour
		{token(ownName, "3"), ""},
		{"opaque", ""},
		{token(formerName, "4"), formerName},
	} {
		w.write(t, "token", next.token)
		if err := target.ReloadToken(); err != nil {
			t.Fatal(err)
		}
		if got := self.name(target); got != next.want {
			t.Errorf("the name is %q, want %q", got, next.want)
		}
	}
}

// Promise: the revocation file denies anonymous too, where it is allowed.
func TestAnonymousCanBeRevoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.writeConfig(t, "v1", "anonymous: {enabled: true}\n")
	file := w.write(t, "revoked.yaml", "revoked: []\n")
	p := w.start(t, map[string]string{"AUTHENTICATION_CONFIG": w.path("authentication.yaml"), "REVOCATION_FILE": file})
	if got := p.ask(t, "", "/version"); got.code != http.StatusOK {
		t.Fatalf("anonymous: %d %s", got.code, got.body)
	}
	w.write(t, "revoked.yaml", "revoked:\n- user: system:anonymous\n")
	eventually(t, func() bool { return p.ask(t, "", "/version").code == http.StatusUnauthorized }, func() string { return "anonymous is served" })
	if got := p.ask(t, anaToken, "/version"); got.code != http.StatusOK {
		t.Errorf("ana: %d %s", got.code, got.body)
	}
}

// Promise: a stream whose user stands in the revocation file ends, also while the
// API server cannot say whether the token is still good.
func TestRevokedWhileReviewsFail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := accountToken(w.newIssuer(t), builderName, apiAudience)
	w.upstream.reviews.give(good, builderName, apiAudience)
	file := w.write(t, "revoked.yaml", "revoked: []\n")
	p := withReviews(t, w, map[string]string{"REVOCATION_FILE": file})
	resp, err := p.client.Do(p.request(t, good, "/api/v1/pods?watch=true"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	<-w.upstream.arrived
	w.upstream.reviews.setBroken(true)
	w.write(t, "revoked.yaml", "revoked:\n- user: "+builderName+"\n")
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, resp.Body)
		ended <- err
	}()
	p.log.await(t, "the end of the watch", func(line string) bool { return field(line, "ended") == "revoked" })
	if err := <-ended; err != nil {
		t.Errorf("the watch ended with %v", err)
	}
}
