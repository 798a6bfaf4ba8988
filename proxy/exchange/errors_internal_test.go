package exchange

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/exchange-errors.md")

// explained is a fault, and what docs/exchange-errors.md says of it.
type explained struct {
	fault       *fault
	why, remedy string
}

// formFaults are those of a request's form.
func formFaults() map[string]explained {
	return map[string]explained{
		"notServed":            {notServed, "A path that is none of `/token`, `/jwks` and `/.well-known/oauth-authorization-server`.", "The API server is at gatehouse's other port."},
		"notGet":               {notGet, "The metadata and the keys are read by GET.", "Use GET."},
		"notPost":              {notPost, "A token is asked for by POST.", "Use POST."},
		"notForm":              {notForm, "Another `Content-Type`, a body that was cut off, a `;` in it, or `Content-Encoding`.", "Send a form, as any OAuth library does."},
		"inQuery":              {inQuery, "The URL has a query.", "Put every parameter into the body."},
		"tooLong":              {tooLong, "The body has more than 256 KiB.", "Two tokens of 32 KiB have room, however they are encoded."},
		"slow":                 {slow, "The body took longer than 10 seconds, or `GATEHOUSE_BODY_TIMEOUT` if that is less.", "Look at what is between the client and gatehouse."},
		"twice":                {twice, "A parameter stands twice; `audience` alone may.", "Send each once. Several words of a scope go into one parameter."},
		"noGrantType":          {noGrantType, "There is no `grant_type`.", "Name it."},
		"otherGrantType":       {otherGrantType, "`grant_type` is another.", "Nobody signs in here: an issuer does that."},
		"noSubject":            {noSubject, "One of the two is missing or empty.", "Send both."},
		"halfActor":            {halfActor, "One of the two is missing or empty.", "Send both, or neither."},
		"badToken":             {badToken, "White space, a comma, or characters beyond ASCII; or more than 32 KiB.", "Look at how the token is put in: a newline at its end is common."},
		"wrongType":            {wrongType, "Another type; `jwt` or `id_token` of something that has not three parts; or `id_token` of a token that no issuer signed.", "`access_token` fits every token."},
		"otherTokenType":       {otherTokenType, "`requested_token_type` is another, such as `id_token` or `refresh_token`.", "Leave it out."},
		"badLifetime":          {badLifetime, "`expires_in` is no number above 0.", "Write seconds."},
		"badClientID":          {badClientID, "More than 256 bytes, or something else than visible ASCII.", "Leave it out: it is noted, and nothing more."},
		"clientAuthentication": {clientAuthentication, "An `Authorization` header.", "Have the OAuth library send no client authentication (`none`)."},
		"clientSecret":         {clientSecret, "`client_secret` or `client_assertion` in the body.", "The same."},
	}
}

// grantFaults are those of whom or what a token is asked for.
func grantFaults() map[string]explained {
	return map[string]explained{
		"badAudience":      {badAudience, "More than 8, or one of more than 1024 bytes, or with something else than visible ASCII.", "Name fewer."},
		"otherResource":    {otherResource, "`resource` is neither a ServiceAccount nor gatehouse itself.", "Mend it, or leave it out."},
		"otherAudience":    {otherAudience, "`audience` names another service, without a ServiceAccount.", "A service that should trust the token trusts the cluster's: ask for a ServiceAccount's."},
		"badAccount":       {badAccount, "Not a namespace and a name with a colon between them.", "Mend it."},
		"noAudience":       {noAudience, "A ServiceAccount's token is asked for without `audience`.", "Name the service that the token is for."},
		"mayNotHave":       {mayNotHave, "The API server answered 403, or the caller's token has a scope.", "Give the caller the verb `create` on `serviceaccounts/token`, by the account's name. A narrowed token makes no other credentials."},
		"noAccount":        {noAccount, "The API server answered 404.", "Make the ServiceAccount, or mend its name."},
		"badTokenRequest":  {badTokenRequest, "The API server refused the TokenRequest itself.", "Ask for another audience or lifetime. `kubectl create token` with the same shows the API server's own words."},
		"accountScope":     {accountScope, "`scope` beside a ServiceAccount.", "What the account may do is its own roles' to say."},
		"accountActor":     {accountActor, "`actor_token` beside a ServiceAccount.", "Exchange for a session token first, and that one for the ServiceAccount's."},
		"shortAccount":     {shortAccount, "`expires_in` below 600: the API server makes none that are shorter.", "Ask for 600 or more."},
		"noSessions":       {noSessions, "`GATEHOUSE_SESSION_KEY_DIR` is not set.", "Set it, or ask for a ServiceAccount's token."},
		"wrongKind":        {wrongKind, "A credential that is no token of somebody.", "Send a token."},
		"notNameable":      {notNameable, "A name that begins with `system:` or `kubeadm:`, as a ServiceAccount's does.", "A ServiceAccount's token can be exchanged for a ServiceAccount's. `GATEHOUSE_ALLOWED_RESERVED_NAMES` can allow names that are no ServiceAccount's."},
		"tooLarge":         {tooLarge, "The session token would have more than 32 KiB.", "Have the issuer send those groups alone that the cluster knows."},
		"tooManySteps":     {tooManySteps, "More than 16 credentials or 4 actors in a chain, or an actor whose own token has an actor.", "Exchange the first token instead."},
		"ending":           {ending, "It ends within a second.", "Sign in again."},
		"longScope":        {longScope, "More than 32 words or 2048 bytes.", "Begin with a token that has fewer."},
		"noActors":         {noActors, "There are no session tokens here.", "Set `GATEHOUSE_SESSION_KEY_DIR`."},
		"mayNotAct":        {mayNotAct, "A SubjectAccessReview said no.", "Give the actor that verb in a ClusterRole: [who may act for whom](decisions/0027-token-exchange.md)."},
		"notAcceptedThere": {notAcceptedThere, "The API server, or gatehouse at a second look, refused the token a moment later.", "Sign in again."},
	}
}

// passingFaults are those that may be otherwise in a moment.
func passingFaults() map[string]explained {
	return map[string]explained{
		"busy":        {busy, "64 exchanges are under way, or this user has as many as are still free.", "Look at how long the API server takes to answer."},
		"crowded":     {crowded, "128 requests whose sender is not known yet are under way, or half of that from one address (a /64 of IPv6).", "Look for clients that begin forms and do not end them. Behind a load balancer see `GATEHOUSE_TRUSTED_PROXIES`: without it all come from one address."},
		"tooOften":    {tooOften, "More than `GATEHOUSE_EXCHANGE_RATE` in a minute.", "Keep tokens for as long as they live: `gatehouse exchange` does."},
		"cannotTell":  {cannotTell, "The SubjectAccessReview got no answer.", "The log has the reason; `/readyz?verbose` says if gatehouse lacks the right to ask."},
		"unavailable": {unavailable, "The API server did not answer the TokenRequest, or not as it should.", "The log lines with the audit id, and of the request to the API server, have the reason."},
		"internal":    {internal, "A fault in gatehouse.", "The log has it."},
	}
}

// Promise: every description of an error that the exchange can give stands in
// docs/exchange-errors.md with its cause and remedy.
func TestErrors(t *testing.T) {
	var page strings.Builder
	page.WriteString("# Errors of the token exchange\n\n" +
		"The token exchange answers as RFC 6749 says: `error` is of a few words, `error_description` one of these sentences.\n" +
		"This page is written by `make docs` from the code and a table of causes, held complete by a test. For a token that is\n" +
		"not accepted the sentence is that of [the proxy](errors.md#about-the-credential), with `invalid_request`, or\n" +
		"`temporarily_unavailable` if it cannot be judged now; and of a scope that cannot be read, the sentence names the word\n" +
		"(`invalid_scope`). With `temporarily_unavailable` stands `Retry-After: 1`.\n")
	told := map[string]*fault{}
	for _, chapter := range []struct {
		title string
		all   map[string]explained
	}{{"About the form of the request", formFaults()}, {"About whom and what the token is for", grantFaults()}, {"What may be otherwise in a moment", passingFaults()}} {
		fmt.Fprintf(&page, "\n## %s\n\n| sentence | code | error | cause | remedy |\n|---|---|---|---|---|\n", chapter.title)
		for _, name := range slices.Sorted(maps.Keys(chapter.all)) {
			e := chapter.all[name]
			told[name] = e.fault
			sentence := strings.NewReplacer("<", "\\<", "|", "\\|").Replace(e.fault.description)
			fmt.Fprintf(&page, "| %s | %d | %s | %s | %s |\n", sentence, e.fault.code, e.fault.name, e.why, e.remedy)
			if e.fault.description != described(e.fault.description) {
				t.Errorf("%s holds characters that a description may not have (RFC 6749 section 5.2)", name)
			}
		}
	}
	if code := faultsOfTheCode(t); !slices.Equal(code, slices.Sorted(maps.Keys(told))) {
		t.Errorf("the code has (-code +told):\n%s", cmp.Diff(code, slices.Sorted(maps.Keys(told))))
	}
	const file = "../../docs/exchange-errors.md"
	if *update {
		if err := os.WriteFile(file, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != page.String() {
		t.Errorf("docs/exchange-errors.md is not current: run `make docs`: %v\n%s", err, cmp.Diff(string(got), page.String()))
	}
}

// faultsOfTheCode returns the names of the variables that hold faults. A fault is
// made nowhere else, but for those whose sentence is the proxy's or the scope's.
func faultsOfTheCode(t *testing.T) (names []string) {
	t.Helper()
	makers := map[string]bool{"invalidRequest": true, "invalidTarget": true, "invalidScope": true, "later": true}
	also := map[string]bool{"refused": true, "badScope": true}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range file.Decls {
			in := ""
			if f, ok := declaration.(*ast.FuncDecl); ok {
				in = f.Name.Name
			}
			ast.Inspect(declaration, func(n ast.Node) bool {
				if spec, ok := n.(*ast.ValueSpec); ok && in == "" {
					for i, value := range spec.Values {
						if makesFault(value, makers) {
							names = append(names, spec.Names[i].Name)
						}
					}
					return false
				}
				if value, ok := n.(ast.Expr); ok && makesFault(value, makers) && !makers[in] && !also[in] {
					t.Errorf("%s makes a fault that nobody can find", fset.Position(n.Pos()))
				}
				return true
			})
		}
	}
	slices.Sort(names)
	return names
}

func makesFault(value ast.Expr, makers map[string]bool) bool {
	switch made := value.(type) {
	case *ast.CallExpr:
		name, ok := made.Fun.(*ast.Ident)
		return ok && makers[name.Name]
	case *ast.CompositeLit:
		name, ok := made.Type.(*ast.Ident)
		return ok && name.Name == "fault"
	case *ast.UnaryExpr:
		return makesFault(made.X, makers)
	}
	return false
}
