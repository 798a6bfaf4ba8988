package proxies

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

// haproxyConfig does by hand what gatehouse does by its nature: it checks the
// signature, the algorithm, exp, iss and aud, and says who asks. It decodes the
// payload once, which is faster than jwt_payload_query for each claim.
//
// What it does not do: it has one key, from a file that is read at its start;
// takes aud as a string only, and as many groups as it has lines for; reads a
// claim that is written twice, or in another type, as it likes; and knows no
// expiry of a stream, no revocation, no limits and no reasons. maxconn is of callers'
// connections; twice as many descriptors must be allowed.
var haproxyConfig = template.Must(template.New("haproxy").Parse(`
global
  nbthread {{.Workers}}
  maxconn 9900
  ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384
  tune.h2.max-concurrent-streams 250

defaults
  mode http
  timeout connect 5s
  timeout http-request 30s
  timeout client 1h
  timeout server 1h
  http-reuse always

frontend callers
  bind {{.Address}} ssl crt {{.Serving}} alpn h2,http/1.1
  http-request set-var(txn.token) http_auth_bearer
  http-request set-var(txn.alg) var(txn.token),jwt_header_query('$.alg')
  http-request deny deny_status 401 unless { var(txn.alg) -m str RS256 }
  http-request deny deny_status 401 unless { var(txn.token),jwt_verify(txn.alg,"{{.PublicKeyFile}}") -m int 1 }
  http-request set-var(txn.claims) var(txn.token),word(2,.),ub64dec
  http-request set-var(txn.exp) var(txn.claims),json_query('$.exp','int')
  http-request set-var(txn.now) date()
  http-request deny deny_status 401 unless { var(txn.exp),sub(txn.now) -m int gt 0 }
  http-request deny deny_status 401 unless { var(txn.claims),json_query('$.iss') -m str {{.IssuerURL}} }
  http-request deny deny_status 401 unless { var(txn.claims),json_query('$.aud') -m str {{.ClientID}} }
  http-request set-var(txn.user) var(txn.claims),json_query('$.email')
  http-request deny deny_status 401 unless { var(txn.user) -m found }
{{- range .GroupIndexes}}
  http-request set-var(txn.group{{.}}) var(txn.claims),json_query('$.groups[{{.}}]')
{{- end}}
  http-request del-header Impersonate- -m beg
  http-request set-header Authorization "Bearer {{.Token}}"
  http-request set-header Impersonate-User "{{.UserPrefix}}%[var(txn.user)]"
{{- range .GroupIndexes}}
  http-request add-header Impersonate-Group "{{$.GroupPrefix}}%[var(txn.group{{.}})]" if { var(txn.group{{.}}) -m found }
{{- end}}
  default_backend upstream

backend upstream
  server upstream {{.Upstream}} ssl verify required ca-file {{.CAFile}} alpn {{.ALPN}} pool-max-conn -1
`))

// maxGroups is how many groups of a token HAProxy passes on.
const maxGroups = 3

// HAProxy starts HAProxy. alpn is what it speaks to the upstream, h2 or http/1.1.
func (w *World) HAProxy(ctx context.Context, name, alpn string) (*Proxy, error) {
	path, err := find("haproxy")
	if err != nil {
		return nil, err
	}
	dir, address, _, pair, err := w.place(name)
	if err != nil {
		return nil, err
	}
	serving, config := filepath.Join(dir, "serving.pem"), filepath.Join(dir, "haproxy.cfg")
	if err := concatenate(serving, pair.CertFile, pair.KeyFile); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = haproxyConfig.Execute(&b, struct {
		*World
		Address, Serving, CAFile, ALPN, UserPrefix, GroupPrefix string
		GroupIndexes                                            []int
	}{w, address, serving, w.Authority.CAFile, alpn, userPrefix, groupPrefix, indexes(maxGroups)})
	if err != nil {
		return nil, fmt.Errorf("write the configuration of HAProxy: %w", err)
	}
	if err := pki.WriteFile(config, b.Bytes()); err != nil {
		return nil, err
	}
	return w.run(ctx, name, address, proc.Config{Path: path, Args: []string{"-db", "-f", config}, Dir: dir})
}

func indexes(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

func concatenate(to string, from ...string) error {
	var all strings.Builder
	for _, path := range from {
		b, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		all.Write(b)
	}
	return pki.WriteFile(to, []byte(all.String()))
}
