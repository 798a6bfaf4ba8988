package proxy

import (
	"flag"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
)

var update = flag.Bool("update", false, "write docs/errors.md")

// page collects docs/errors.md, and the sentences that are on it.
type page struct {
	strings.Builder
	sentences map[sentence]bool
}

// row writes one line of a table: a sentence, its code and what else is known.
func (p *page) row(a answer, why cause, columns ...string) {
	p.sentences[a.message] = true
	fmt.Fprintf(p, "| %s | %d |", a.message.with("…"), a.code)
	for _, column := range append(columns, why.why, why.remedy) {
		fmt.Fprintf(p, " %s |", column)
	}
	p.WriteString("\n")
}

func (p *page) head(title, text string, columns ...string) {
	fmt.Fprintf(p, "\n## %s\n\n%s\n\n| sentence | code |", title, text)
	for _, column := range append(columns, "cause", "remedy") {
		fmt.Fprintf(p, " %s |", column)
	}
	p.WriteString("\n|---|---|" + strings.Repeat("---|", len(columns)+2) + "\n")
}

// word says when an answer has Retry-After.
func (a again) word() string {
	return map[again]string{never: "never", ofReads: "reads", always: "always"}[a]
}

// errorsPage writes docs/errors.md from the answers and their causes.
func errorsPage(t *testing.T) *page {
	t.Helper()
	p := &page{sentences: map[sentence]bool{}}
	p.WriteString(`# Errors by their sentence

gatehouse says each of these to callers in the ` + "`message` of a `Status`, and in a `Warning`" + ` header, which kubectl prints.
This page is written by ` + "`make docs`" + ` from the code and a table of causes; a test fails if the code can say a sentence that
is not here. What it says of its own settings, when it starts or in ` + "`gatehouse check`" + `, is in
[settings](settings.md#faults).

- [About the credential](#about-the-credential)
- [About the request](#about-the-request)
- [About the way to the API server](#about-the-way-to-the-api-server)
- [About limits](#about-limits)
- [About gatehouse itself](#about-gatehouse-itself)
- [What else you may see](#what-else-you-may-see)

Every answer has an ` + "`Audit-Id`; the log line with the same `audit_id` has the `detail`" + ` that the caller does not get.
[` + "`gatehouse explain`" + `](how-to/explain-a-refusal.md) shows the rule behind a refusal, for a token at hand.

` + "`Retry-After: 1`" + ` stands only where sending again does no harm, because clients repeat whatever carries it; client-go
does so up to ten times, for mutating requests too. The column *again* says where: always; for *reads*, which are GET,
HEAD and OPTIONS without an upgrade; or never.
`)
	p.credentials(t)
	p.head("About the request", "Something in it cannot be passed on. Nothing was sent to the API server, but where the table says so.", "again")
	for _, one := range requestCauses() {
		p.row(one.answer, one.cause, one.answer.again.word())
	}
	p.head("About the way to the API server", "`reason` is the label in `gatehouse_upstream_errors_total`.", "again", "`reason`")
	for _, one := range upstreamCauses() {
		reason := "`" + upstreamReason(one.answer) + "`"
		if one.answer == looping {
			reason = "" // found before anything is sent
		}
		p.row(one.answer, one.cause, one.answer.again.word(), reason)
	}
	p.WriteString("\nAn answer of an application behind the API server that is a 403 and names gatehouse's account gets the sentence of\n" +
		"`own_rights` too, and is not counted.\n")
	p.limits(t)
	p.head("About gatehouse itself", "What concerns this one process.", "again")
	for _, one := range ownCauses() {
		p.row(one.answer, one.cause, one.answer.again.word())
	}
	p.WriteString(notOurs)
	return p
}

const notOurs = `
## What else you may see

| what you see | where it comes from |
|---|---|
| a 403 that says ` + "`User \"oidc:bob\" cannot …`" + `, a 404, a 409, and everything else with the API server's own words | the cluster. gatehouse has let you in and passes its answers on as they are. Compare the name in it with your bindings |
| plain text, and no ` + "`Status`" + ` | bytes that are no HTTP, or break its rules, get a plain 400 from Go's HTTP library; a header above ` + "`GATEHOUSE_MAX_HEADER_BYTES`" + ` a plain 431; another ` + "`Expect`" + ` over HTTP/1.1 a 417. HTTP without TLS gets a 400 too |
| ` + "`error` and `error_description`" + `, and no ` + "`Status`" + ` | gatehouse's token exchange, which answers as RFC 6749 says. Its descriptions have [a page of their own](exchange-errors.md) |
| a page of HTML, or a ` + "`Server`" + ` header | a load balancer or proxy before gatehouse. gatehouse's own answers have an ` + "`Audit-Id`" + ` |
| ` + "`x509: certificate signed by unknown authority`" + ` and the like from kubectl | kubectl does not trust gatehouse's serving certificate: put its CA into the kubeconfig |
| ` + "`connection refused`, `EOF`" + `, a reset before any answer | nothing listens, or the connection was closed at once because there were too many (` + "`connections` in `gatehouse_rejected_total`" + `) |
`

// credentials writes the refusals. Those that say the same stand in one row, and
// in a table of their own below.
func (p *page) credentials(t *testing.T) {
	t.Helper()
	p.head("About the credential", "`reason` is the label `result` of the metric, and `refused` in the log.", "again", "`reason`")
	causes, vague := credentialCauses(), []auth.Reason{}
	now := time.Now()
	for _, reason := range auth.Reasons() {
		if _, ok := causes[reason]; !ok {
			t.Errorf("no cause is told of the reason %s", reason)
		}
		refusal := &auth.Refusal{Reason: reason, At: now.Add(-5 * time.Minute)}
		if reason == auth.NotYetValid {
			refusal.At = now.Add(2 * time.Hour)
		}
		a := refusalAnswer(refusal, now)
		if a.message == notAccepted {
			vague = append(vague, reason)
			continue
		}
		p.row(a, causes[reason], a.again.word(), "`"+string(reason)+"`")
		p.sentences[refusalSentences[reason]] = true // with its %s
	}
	for reason := range causes {
		if !slices.Contains(auth.Reasons(), reason) {
			t.Errorf("a cause is told of %s, which is no reason", reason)
		}
	}
	p.row(answer{code: 401, message: notAccepted}, cause{"Nothing in the credential could be trusted.", "The log says which of these it was; see below."},
		never.word(), "`"+join(vague, "`, `")+"`")
	p.WriteString("\nUntil a signature is verified, nobody is told what is wrong with it. Behind \"Your credential was not accepted\":\n\n" +
		"| `reason` | cause | remedy |\n|---|---|---|\n")
	for _, reason := range vague {
		fmt.Fprintf(p, "| `%s` | %s | %s |\n", reason, causes[reason].why, causes[reason].remedy)
	}
}

func (p *page) limits(t *testing.T) {
	t.Helper()
	p.head("About limits", "Nothing was sent to the API server. `limit` is the label in `gatehouse_rejected_total`, and `rejected` in the log.", "again", "`limit`")
	causes := limitCauses()
	for _, why := range rejections() {
		if why.answer.code != 429 {
			continue // about the request
		}
		if _, ok := causes[why]; !ok {
			t.Errorf("no cause is told of the limit %s", why.label)
		}
		p.row(why.answer, causes[why], why.answer.again.word(), "`"+why.label+"`")
	}
}

func join(reasons []auth.Reason, by string) string {
	words := make([]string, len(reasons))
	for i, reason := range reasons {
		words[i] = string(reason)
	}
	return strings.Join(words, by)
}

// Promise: every sentence that gatehouse can say to a caller is in
// docs/errors.md with its cause and its remedy, and no other.
func TestErrors(t *testing.T) {
	p := errorsPage(t)
	const path = "../docs/errors.md"
	if *update {
		if err := os.WriteFile(path, []byte(p.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p.String(), string(content)); diff != "" {
		t.Errorf("docs/errors.md is not current: run `make docs` (-want +got):\n%s", diff)
	}
	if strings.Contains(p.String(), "| |  |") || strings.Contains(p.String(), "|  |\n") {
		t.Error("a cause or a remedy is empty")
	}
	said := sentencesOfTheCode(t)
	for s := range said {
		if !p.sentences[s] {
			t.Errorf("the code can say %q, which docs/errors.md does not have", s)
		}
	}
	for s := range p.sentences {
		if !said[s] && !slices.ContainsFunc([]sentence{refusalSentences[auth.Expired], refusalSentences[auth.NotYetValid], refusalSentences[auth.CertificateExpired]}, func(open sentence) bool {
			return s == open.with("5 minutes") || s == open.with("2 hours")
		}) {
			t.Errorf("docs/errors.md has %q, which the code cannot say", s)
		}
	}
	if len(said) < 60 {
		t.Errorf("only %d sentences were found in the code", len(said))
	}
}

// sentencesOfTheCode returns every constant of the type sentence in this
// package. Another way to make a sentence is an error, but for the one place that
// puts a time into it.
func sentencesOfTheCode(t *testing.T) map[sentence]bool {
	t.Helper()
	files, fset := sources(t, ".")
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	// What this package imports is not read, but for auth, whose reasons are the
	// keys of sentences: nobody else can have a value of this type.
	config := types.Config{Importer: onlyAuth{t}, Error: func(error) {}}
	pkg, _ := config.Check("proxy", fset, files, info)
	object := pkg.Scope().Lookup("sentence")
	if object == nil {
		t.Fatal("there is no type sentence")
	}
	said := map[sentence]bool{}
	for _, value := range info.Types {
		if value.Type == object.Type() && value.Value != nil {
			said[sentence(constant.StringVal(value.Value))] = true
		}
	}
	var conversions []string
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				path := filepath.Base(fset.Position(call.Pos()).Filename)
				if called := info.Types[call.Fun]; called.IsType() && types.Unalias(called.Type) == object.Type() {
					conversions = append(conversions, path)
				}
				if method, ok := call.Fun.(*ast.SelectorExpr); ok && method.Sel.Name == "with" && path != "answer.go" {
					t.Errorf("%s puts a word into a sentence: answer.go alone may, where one sees which", fset.Position(call.Pos()))
				}
			}
			return true
		})
	}
	if !slices.Equal(conversions, []string{"answer.go"}) {
		t.Errorf("other text is made into sentences in %q: want one place, sentence.with", conversions)
	}
	return said
}

// onlyAuth imports auth and nothing else.
type onlyAuth struct{ t *testing.T }

func (i onlyAuth) Import(path string) (*types.Package, error) {
	if !strings.HasSuffix(path, "/gatehouse/auth") {
		return nil, fs.ErrNotExist
	}
	files, fset := sources(i.t, "../auth")
	config := types.Config{Importer: i, Error: func(error) {}}
	pkg, _ := config.Check(path, fset, files, nil) // incomplete, as it imports nothing
	return pkg, nil
}

// sources parses the files of a folder that are no tests.
func sources(t *testing.T, folder string) ([]*ast.File, *token.FileSet) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files, fset
}

// Promise: nothing but an answer's sentence, and what the API server says,
// reaches a caller: no other place in the product begins a response.
func TestOneVoice(t *testing.T) {
	allowed := map[string]string{
		"proxy/answer.go":           "the answers",
		"proxy/observe.go":          "notes the status that is written",
		"proxy/relay.go":            "the API server's answer",
		"proxy/serve/ops.go":        "probes, on their own port",
		"proxy/h2server/header.go":  "what is no request, as net/http over HTTP/1.1",
		"proxy/exchange/answer.go":  "the token exchange, in the form of RFC 6749: a set of its own",
		"proxy/exchange/account.go": "notes the status of what the exchange asks the proxy",
	}
	begins := []string{"WriteHeader", "Error", "NotFound", "Redirect"}
	found := map[string]bool{}
	for _, folder := range folders(t) {
		files, fset := sources(t, folder)
		for _, file := range files {
			path := strings.TrimPrefix(filepath.ToSlash(fset.Position(file.Pos()).Filename), "../")
			ast.Inspect(file, func(n ast.Node) bool {
				called, ok := n.(*ast.SelectorExpr)
				if !ok || !slices.Contains(begins, called.Sel.Name) {
					return true
				}
				of, _ := called.X.(*ast.Ident)
				library := of != nil && of.Name == "http"
				if called.Sel.Name == "WriteHeader" || library {
					found[path] = true
					if allowed[path] == "" {
						t.Errorf("%s calls %s: callers hear answers alone", fset.Position(called.Pos()), strconv.Quote(called.Sel.Name))
					}
				}
				return true
			})
		}
	}
	for path := range allowed {
		if !found[path] {
			t.Errorf("%s begins no response any more", path)
		}
	}
}

// folders returns those of the product's packages: of this module, without what
// is for tests alone.
func folders(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, root := range []string{"../proxy", "../auth", "../cmd"} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case entry.Name() == "authtest" || entry.Name() == "exchangetest" || entry.Name() == "testdata":
				return fs.SkipDir
			case entry.IsDir():
				all = append(all, path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}
