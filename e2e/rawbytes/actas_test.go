package rawbytes

import (
	"fmt"
	"maps"
	"slices"
	"testing"
)

// mayActAs are the rights of the callers of this file: alice has classic ones, bob
// constrained ones, for one request.
var mayActAs = []string{
	"alice@example.com: impersonate users./ /carol",
	"alice@example.com: impersonate users./ /" + ownAccount,
	"alice@example.com: impersonate users./ /system:admin",
	"alice@example.com: impersonate users./ /system:node:n1",
	"alice@example.com: impersonate groups./ /dev",
	"alice@example.com: impersonate groups./ /system:masters",
	"alice@example.com: impersonate groups./ /Zoë team",
	"alice@example.com: impersonate uids.authentication.k8s.io/ /7",
	"alice@example.com: impersonate userextras.authentication.k8s.io/example.com/k /v",
	"alice@example.com: impersonate userextras.authentication.k8s.io/kube-gatehouse.github.io/original-user /root",
	"alice@example.com: impersonate serviceaccounts./ ci/builder",
	"alice@example.com: impersonate serviceaccounts./ gatehouse/gatehouse",
	"bob: impersonate-on:user-info:list pods./ dev/",
	"bob: impersonate-on:user-info:get pods./exec dev/p",
	"bob: impersonate:user-info users.authentication.k8s.io/ /carol",
}

// acting is the identity that arrives where somebody acts as another.
func acting(original string, as Identity) Identity {
	as.Extra = maps.Clone(as.Extra)
	if as.Extra == nil {
		as.Extra = map[string][]string{}
	}
	as.Extra["kube-gatehouse.github.io/original-user"] = []string{original}
	return as
}

var actsAs = Field{"Impersonate-User", "carol"}

// startActing runs gatehouse of its own: rights are those of its API server, which
// answers no question with mute.
func startActing(t *testing.T, h2, mute bool, env ...string) *Target {
	t.Helper()
	up, err := StartUpstream(shared.pki, h2, proxyToken)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	up.Grant(mute, mayActAs...)
	p, err := shared.process(t.Name(), up, usersCSV(), env...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return &Target{Addr: p.Addr, Roots: shared.pki.Roots, Up: up, Secrets: shared.secrets, LogFrom: p.LogFrom}
}

// attackActing runs a table over the carriers of each row.
func attackActing(t *testing.T, mute bool, table []Case, env ...string) {
	for _, h2 := range []bool{false, true} {
		t.Run(map[bool]string{false: "upstream=http1", true: "upstream=http2"}[h2], func(t *testing.T) {
			t.Parallel()
			to := startActing(t, h2, mute, env...)
			for _, c := range Carriers {
				t.Run(string(c), func(t *testing.T) { tryAll(t, to, c, table) })
			}
		})
	}
}

// TestActingAsArrivesExactly holds that of a caller who may act as another exactly
// that one arrives, with the caller's name beside, on every protocol, between
// requests of the caller's own (O1; threats 30, 31, 36, 39).
func TestActingAsArrivesExactly(t *testing.T) {
	carol := acting(alice.User, Identity{User: "carol"})
	onH2 := harmless(carol, 400)
	onH2.Dropped = true
	whole := acting(alice.User, Identity{User: "carol", UID: "7", Groups: []string{"dev", "Zoë team"}, Extra: map[string][]string{"example.com/k": {"v"}}})
	table := []Case{
		{Name: "plain", Request: ask(actsAs), Want: served(carol)},
		{Name: "the caller's own between", Request: ask(), Want: served(alice)},
		{Name: "everything", Want: served(whole), Request: ask(actsAs, Field{"Impersonate-Group", "dev"}, Field{"impersonate-uid", "7"},
			Field{"IMPERSONATE-GROUP", "Zoë team"}, Field{"Impersonate-Extra-example.com%2Fk", "v"})},
		{Name: "the extra key in capitals, more of it encoded", Request: ask(actsAs, Field{"Impersonate-Extra-EXAMPLE%2ecom%2FK", "v"}),
			Want: served(acting(alice.User, Identity{User: "carol", Extra: map[string][]string{"example.com/k": {"v"}}}))},
		{Name: "a reserved name that the cluster allows", Request: ask(Field{"Impersonate-User", "system:admin"}), Want: served(acting(alice.User, Identity{User: "system:admin"}))},
		{Name: "a ServiceAccount", Request: ask(Field{"Impersonate-User", "system:serviceaccount:ci:builder"}), Want: served(Identity{User: "system:serviceaccount:ci:builder"})},
		{Name: "on a write", On: oneWay, Want: served(carol), Request: Request{Method: "POST", Target: "/api/v1/pods", Fields: ask(actsAs).Fields, Body: "{}"}},
		{Name: "constrained, on a list", On: oneWay, Request: as(bobToken, "/api/v1/namespaces/dev/pods", actsAs), Want: served(acting("bob", Identity{User: "carol"}))},
		{Name: "constrained, on exec", On: upgrade, Request: as(bobToken, "/api/v1/namespaces/dev/pods/p/exec", actsAs), Want: served(acting("bob", Identity{User: "carol"}))},
		{Name: "look-alikes beside", Request: ask(actsAs, Field{"X-Remote-User", "root"}, Field{"X-Impersonate-User", "root"}), Want: harmless(carol, 400)},
	}
	for _, v := range []string{"Impersonate-User", "close, impersonate-user, Authorization", "Impersonate-Extra-Kube-Gatehouse.github.io%2Foriginal-User"} {
		table = append(table, Case{Name: fmt.Sprintf("Connection %q", v), Request: ask(actsAs, Field{"Connection", v}), Want: served(carol), OnH2: &onH2})
	}
	attackActing(t, false, table)
}

// TestActingAsIsRefused holds that nothing arrives of a wish that the cluster's
// rules deny in any part, that can be read in two ways, or that names what nobody
// may be (O3; threats 11, 12, 13, 21, 31, 32, 33, 35).
func TestActingAsIsRefused(t *testing.T) {
	user := func(name string) Field { return Field{"Impersonate-User", name} }
	row := func(name string, code int, f ...Field) Case {
		return Case{Name: name, Request: ask(f...), Want: refused(code)}
	}
	table := []Case{
		row("another user", 403, user("root")), row("himself", 403, user(alice.User)), row("another case", 403, user("Carol")),
		row("a group more", 403, actsAs, Field{"Impersonate-Group", "dev"}, Field{"Impersonate-Group", "ops"}),
		row("another uid", 403, actsAs, Field{"Impersonate-Uid", "8"}),
		row("another value of extra", 403, actsAs, Field{"Impersonate-Extra-example.com%2fk", "v"}, Field{"Impersonate-Extra-example.com%2fk", "w"}),
		row("masters", 403, actsAs, Field{"Impersonate-Group", "system:masters"}), row("a node", 403, user("system:node:n1")),
		row("the proxy's own account", 403, user(ownAccount)), row("a ServiceAccount as a user", 403, user("system:serviceaccount:ci:other")),
		row("a group alone", 400, Field{"Impersonate-Group", "dev"}), row("a uid alone", 400, Field{"Impersonate-Uid", "7"}),
		row("two users", 400, actsAs, actsAs), row("two users in two cases", 400, actsAs, Field{"impersonate-user", "root"}),
		row("two uids", 400, actsAs, Field{"Impersonate-Uid", "7"}, Field{"Impersonate-Uid", "7"}), row("an empty user", 400, user("")),
		row("an empty user beside", 400, actsAs, user("")), row("an empty group", 400, actsAs, Field{"Impersonate-Group", ""}),
		row("an unknown name", 400, actsAs, Field{"Impersonate-Role", "admin"}), row("an underscore beside", 400, actsAs, Field{"Impersonate_Group", "system:masters"}),
		row("an underscore alone", 400, Field{"Impersonate_User", "carol"}),
		row("the proxy's own extra", 400, actsAs, Field{"Impersonate-Extra-kube-gatehouse.github.io%2foriginal-user", "root"}),
		row("the proxy's own extra, encoded", 400, actsAs, Field{"Impersonate-Extra-%6bube-gatehouse.github.io%2Foriginal-user", "root"}),
		row("an extra key without a domain", 400, actsAs, Field{"Impersonate-Extra-Scopes", "v"}),
		row("an extra key that decodes to capitals", 400, actsAs, Field{"Impersonate-Extra-example.com%2f%4B", "v"}),
		row("no-break space", 400, user("carol\u00a0")), row("U+FFFD", 400, user("carol\ufffd")), row("not UTF-8", 400, user("carol\xff")), row("C1 control", 400, user("carol\u0085")),
		{Name: "a bad credential", Request: as("wrong", "/", actsAs), Want: refused(401)},
		{Name: "no credential", Request: Request{Target: "/", Fields: Fields{actsAs}}, Want: refused(401)},
		{Name: "constrained, on another request", Request: as(bobToken, "/api/v1/namespaces/ops/pods", actsAs), Want: refused(403)},
		{Name: "constrained, a list that is a watch", Request: as(bobToken, "/api/v1/namespaces/dev/pods?w%61tch", actsAs), Want: refused(403)},
		{Name: "constrained, a list that changes", On: oneWay, Want: refused(403), Request: Request{Method: "DELETE", Target: "/api/v1/namespaces/dev/pods", Fields: as(bobToken, "", actsAs).Fields}},
		{Name: "constrained, another user", Request: as(bobToken, "/api/v1/namespaces/dev/pods", user("root")), Want: refused(403)},
		{Name: "a path that is not UTF-8", Request: as(aliceToken, "/api/v1/namespaces/dev/pods/%ff", actsAs), Want: refused(400)},
	}
	table = append(table, row("257 groups", 400, append([]Field{actsAs}, slices.Repeat([]Field{{"Impersonate-Group", "dev"}}, 257)...)...))
	for _, v := range []string{" carol", "carol ", "carol\t", " "} { // HTTP/1.1 trims, HTTP/2 does not
		table = append(table, Case{Name: fmt.Sprintf("white space in %q", v), On: []Carrier{H2}, Request: ask(user(v)), Want: malformed(400)})
	}
	for _, v := range []string{"carol\r\nImpersonate-Group: system:masters", "carol\x00", "carol\nx"} {
		table = append(table, Case{Name: fmt.Sprintf("control characters in %q", v), On: []Carrier{H2}, Request: ask(user(v)), Want: malformed(400)})
	}
	attackActing(t, false, table)
}

// TestActingAsFailsClosed holds that where the API server gives no answer, or the
// setting says so, nobody acts as another (O3; threat 34).
func TestActingAsFailsClosed(t *testing.T) {
	table := func(code int) []Case {
		return []Case{
			{Name: "asked", Request: ask(actsAs), Want: refused(code)},
			{Name: "a ServiceAccount", Request: ask(Field{"Impersonate-User", "system:serviceaccount:ci:builder"}), Want: refused(code)},
			{Name: "not asked", Request: ask(), Want: served(alice)},
		}
	}
	t.Run("no answer", func(t *testing.T) { attackActing(t, true, table(503)) })
	t.Run("setting", func(t *testing.T) { attackActing(t, false, table(403), "GATEHOUSE_IMPERSONATION=false") })
}

// TestAccountsActAs holds that a ServiceAccount's wish to be somebody goes with
// exactly its own token to the API server, who decides; never as the proxy, and
// never by the rights of the proxy's account (O1; threats 31, 35, 90).
func TestAccountsActAs(t *testing.T) {
	of := func(as Identity) Identity { return Identity{User: builderName, Token: builderToken, As: &as} }
	asAlice := Field{"Impersonate-User", "alice"}
	attackAccounts(t, []Case{
		{Name: "allowed there", Request: as(builderToken, "/", asAlice), Want: served(of(Identity{User: "alice"}))},
		{Name: "with groups, the API server's own too", Request: as(builderToken, "/", asAlice, Field{"Impersonate-Group", "system:authenticated"}, Field{"Impersonate-Group", "dev"}),
			Want: served(of(Identity{User: "alice", Groups: []string{"system:authenticated", "dev"}}))},
		{Name: "refused there", Request: as(builderToken, "/", Field{"Impersonate-User", "root"}), Want: served(of(Identity{User: "root"})).status(403)},
		{Name: "as the proxy", Request: as(builderToken, "/", Field{"Impersonate-User", ownAccount}), Want: refused(403)},
		{Name: "an unknown name beside", Request: as(builderToken, "/", asAlice, Field{"Impersonate-Role", "x"}), Want: refused(400)},
		{Name: "as itself again", Request: as(builderToken, "/"), Want: served(builder)},
	})
}

// TestActingAsAsksLittle holds that a wish of more groups than are asked about
// costs the API server nothing, and one that was allowed is not asked about again
// at once (threat 33).
func TestActingAsAsksLittle(t *testing.T) {
	to := startActing(t, true, false)
	many := append([]Field{actsAs}, slices.Repeat([]Field{{"Impersonate-Group", "dev"}}, 257)...)
	for _, step := range []struct {
		c         Case
		questions int
	}{
		{Case{Request: ask(many...), Want: refused(400)}, 0},
		{Case{Request: ask(actsAs), Want: served(acting(alice.User, Identity{User: "carol"}))}, 2}, // the constrained mode first
		{Case{Request: ask(actsAs), Want: served(acting(alice.User, Identity{User: "carol"}))}, 2},
	} {
		faults, err := to.Try(H2, step.c)
		if err != nil {
			t.Fatal(err)
		}
		if got := to.Up.Asked(); len(faults) > 0 || len(got) != step.questions {
			t.Errorf("%v; asked %q, want %d", faults, got, step.questions)
		}
	}
}
