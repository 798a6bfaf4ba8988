// Package actas_test answers: does gatehouse let people act as others (kubectl
// --as) exactly where kube-apiserver does? Its test gives generated requests to
// kube-apiserver's own impersonation filter, and to gatehouse in front of it. A
// failure prints the seed that repeats it:
//
//	go test ./oracle/actas -oracle.for 10m -oracle.seed 7
package actas_test

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/klog/v2"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy/impersonate"
)

var (
	generateFor  = flag.Duration("oracle.for", 5*time.Second, "how long requests are generated")
	generateSeed = flag.Uint64("oracle.seed", 1, "the first seed; the next draw has the next one")
)

func TestMain(m *testing.M) {
	flag.Parse()
	// kube-apiserver's code logs each query that it cannot read.
	quiet := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(quiet)
	for name, value := range map[string]string{"logtostderr": "false", "alsologtostderr": "false", "stderrthreshold": "FATAL"} {
		if err := quiet.Set(name, value); err != nil {
			panic(err)
		}
	}
	klog.SetOutput(io.Discard)
	os.Exit(m.Run())
}

// wish is a request of somebody who wants to be somebody else.
type wish struct {
	caller         int
	headers        http.Header
	method, target string
}

var actingCallers = []caller{
	{auth.KindOIDC, auth.User{Name: "bob"}},
	{auth.KindTokenFile, auth.User{Name: "carol", UID: "7", Groups: []string{"dev", "ops"}}},
	{auth.KindOIDC, auth.User{Name: "Zoë", Groups: []string{"system:authenticated", "dev"}, Extra: map[string][]string{auth.CredentialIDKey: {"JTI=1"}, "example.com/k": {"v", "w"}}}},
	{auth.KindAnonymous, auth.User{Name: auth.AnonymousUser, Groups: []string{auth.UnauthenticatedGroup}}},
	{auth.KindClientCert, auth.User{Name: "dave", Groups: []string{auth.UnauthenticatedGroup}}},
}

var (
	wantedUsers = []string{"alice", "bob", "system:admin", "system:anonymous", "Zoë", "*", "a/b", "system:masters", "system:nodes",
		"system:serviceaccount:ci:builder", "system:serviceaccount:ci:builder", "system:serviceaccount:ci:", "system:serviceaccount:CI:x", "system:serviceaccount:a:b:c", "system:node:n1", "system:node:N_1"}
	wantedGroups = []string{"dev", "ops", "qa", "sre", "*", "system:authenticated", "system:unauthenticated", "system:nodes", "system:serviceaccounts", "system:masters", "Zoë"}
	wantedExtras = []string{"Impersonate-Extra-Example.com%2fk", "Impersonate-Extra-Example.com%2Fother", "Impersonate-Extra-A%2fb", "Impersonate-Extra-Under_score.x%2fk",
		"Impersonate-Extra-Example.com%2fwith%2fslash", "Impersonate-Extra-Plain", "Impersonate-Extra-Example.com%2f%41", "Impersonate-Extra-%2a%2f%2a", "Impersonate-Extra-Bad%zz"}
	wantedValues = []string{"v", "w", "*", "x y", "Zoë"}

	actingMethods = []string{"GET", "GET", "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
	actingPaths   = []string{
		"/api/v1/namespaces/dev/pods", "/api/v1/pods", "/api/v1/namespaces/dev/pods/web", "/api/v1/namespaces/dev/pods/web/exec", "/api/v1/namespaces/dev/pods/web/proxy/a/b",
		"/api/v1/watch/pods", "/api/v1/watch/namespaces/dev/pods/web", "/api/v1/watch", "/api/v1/proxy/namespaces/dev/pods/web/x", "/api/v1/namespaces", "/api/v1/namespaces/dev",
		"/api/v1/namespaces/dev/status", "/api/v1/namespaces/dev/finalize/x", "/apis/apps/v1/namespaces/dev/deployments/web/scale", "/apis/apps/v1/deployments", "/apis/apps/v1", "/apis/apps",
		"/api", "/healthz", "/healthz/", "/", "//api/v1/pods", "/api//pods", "/api/v1//pods", "/api/v1/pods/", "/api/v1/namespaces//pods", "/metrics/a%20b", "/api/v1/namespaces/%C3%A9/pods/%2e", "/API/v1/pods", "/api/v1/namespaces/dev/pods/%ff",
	}
	actingQueries = []string{
		"watch=1", "watch", "watch=false", "watch=0", "watch=FALSE", "watch=no", "w%61tch=true", "Watch=true", "watch=%zz", "watch=1;a", "follow=true", "limit=5", "limit=x", "limit=x", "limit=x", "timeoutSeconds=x",
		"fieldSelector=metadata.name%3Dweb", "fieldSelector=metadata.name%3D..", "fieldSelector=a%3Db,c!%3Dd", "fieldSelector=bad", "fieldSelector=", "labelSelector=a%3Db", "labelSelector=a%20in%20(b,c)", "labelSelector=%21", "labelSelector=a,b",
		"labelSelector=%ff", "resourceVersionMatch=x", "allowWatchBookmarks=x", "sendInitialEvents=x",
	}
)

func pick[T any](random *rand.Rand, from []T) T { return from[random.IntN(len(from))] }

func drawWish(random *rand.Rand) wish {
	w := wish{caller: random.IntN(len(actingCallers)), headers: http.Header{}, method: pick(random, actingMethods), target: pick(random, actingPaths)}
	if random.IntN(12) > 0 {
		w.headers["Impersonate-User"] = []string{pick(random, wantedUsers[:2+random.IntN(len(wantedUsers)-1)])}
	}
	for range random.IntN(3) * random.IntN(3) {
		w.headers["Impersonate-Group"] = append(w.headers["Impersonate-Group"], pick(random, wantedGroups))
	}
	if random.IntN(4) == 0 {
		w.headers["Impersonate-Uid"] = []string{pick(random, wantedValues)}
	}
	for range random.IntN(2) * random.IntN(4) {
		name := pick(random, wantedExtras)
		for range 1 + random.IntN(3) {
			w.headers[name] = append(w.headers[name], pick(random, wantedValues))
		}
	}
	var query []string
	for range random.IntN(4) {
		query = append(query, pick(random, actingQueries))
	}
	if len(query) > 0 {
		w.target += "?" + strings.Join(query, "&")
	}
	return w
}

// stricter reports whether docs/divergences.md says that gatehouse refuses what
// kube-apiserver may serve.
func (w wish) stricter() bool {
	wanted, err := impersonate.Wanted(w.headers)
	if err != nil {
		return len(w.headers) > 0
	}
	return impersonate.Impossible(wanted) || (auth.NamePolicy{}).CheckWire(auth.KindOIDC, wanted) != nil || strings.Contains(w.target, "%ff")
}

// settled returns u with the group of everybody at the end, once: gatehouse leaves
// it to the API server, which adds it there (docs/divergences.md, names).
func settled(u *auth.User) *auth.User {
	if !slices.Contains(u.Groups, auth.AuthenticatedGroup) {
		return u
	}
	with := *u
	with.Groups = slices.DeleteFunc(slices.Clone(u.Groups), func(g string) bool { return g == auth.AuthenticatedGroup })
	with.Groups = append(with.Groups, auth.AuthenticatedGroup)
	return &with
}

func (w wish) String() string {
	return fmt.Sprintf("%+v: %s %s %v", actingCallers[w.caller], w.method, w.target, w.headers)
}

// Promise: of one caller, one wish to be another and one request, kube-apiserver's
// own impersonation filter and gatehouse in front of it serve the same user, or
// both refuse; gatehouse refuses more only where docs/divergences.md says so, and
// never less. Both remember what they remember.
func TestActingAsIsJudgedAlike(t *testing.T) {
	p := newActPair(t, actingCallers)
	served, refused := 0, 0
	for end, seed := time.Now().Add(*generateFor), *generateSeed; time.Now().Before(end) && !t.Failed(); seed++ {
		random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // repeatable on purpose
		p.begin(t, lottery{seed, []uint64{100, 97, 90, 70, 40}[seed%5]})
		for range 40 {
			w := drawWish(random)
			want, wantCode := askActing(t, p.direct, w)
			got, gotCode := askActing(t, p.through, w)
			if got != nil {
				delete(got.Extra, impersonate.OriginalUserKey)
				if len(got.Extra) == 0 {
					got.Extra = nil
				}
			}
			switch {
			case want != nil && got == nil && w.stricter():
				refused++
			case (want == nil) != (got == nil):
				t.Errorf("-oracle.seed=%d\n%s\nkube-apiserver %d %+v\ngatehouse      %d %+v", seed, w, wantCode, want, gotCode, got)
			case want != nil:
				served++
				if diff := cmp.Diff(settled(want), settled(got)); diff != "" {
					t.Errorf("-oracle.seed=%d\n%s (-kube-apiserver +gatehouse):\n%s", seed, w, diff)
				}
			default:
				refused++
			}
		}
	}
	if t.Logf("%d served, %d refused", served, refused); served < 50 || refused < 50 {
		t.Errorf("%d were served and %d refused: that proves little", served, refused)
	}
}
