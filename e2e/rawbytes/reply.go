package rawbytes

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"strings"
)

// reply is what the fake answers. raw, if set, is sent instead on HTTP/1.1.
// tunnel means that bytes are echoed after the answer; held means that a second
// part of the body follows when the test releases it; stalled, that nothing at
// all is sent until then.
type reply struct {
	status       int
	fields       Fields
	body         string
	raw          string
	held, tunnel bool
	stalled      bool
	length       int // of a held body, announced; 0 announces none
}

// replyTo decides as kube-apiserver does: credential, impersonation, and then
// what the `fake=` parameter of the query asks for.
func (u *Upstream) replyTo(r *Record) reply {
	caller := u.caller(r)
	if caller == "" {
		return statusReply(401, "Unauthorized")
	}
	if r.probe {
		switch path, _, _ := strings.Cut(r.Target, "?"); {
		case path == reviewPath || path == selfPath:
			return u.reviewReply(path, r.Body)
		case path == accessPath:
			return u.accessReply(r.Body)
		case path == "/version":
			return reply{status: 200, fields: jsonType, body: `{"major":"1","minor":"37","gitVersion":"v1.37.2"}`}
		case r.Method == "POST":
			return reply{status: 201, fields: jsonType, body: `{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","status":{"allowed":true}}`}
		}
		return reply{status: 200, body: "ok"}
	}
	id, bad := Impersonated(r.Fields)
	if bad {
		return statusReply(400, "BadRequest")
	}
	switch {
	case id == nil && caller == ownAccount:
		return reply{status: 200, body: ExecutedAsProxy}
	case id != nil && caller != ownAccount && id.User != "alice":
		return statusReply(403, "Forbidden") // an account may act as alice alone
	}
	if proto := r.Fields.Get("Upgrade"); proto != "" {
		return upgradeReply(r, proto)
	}
	return plainReply(r)
}

var jsonType = Fields{{"Content-Type", "application/json"}}

func statusReply(code int, reason string) reply {
	return reply{status: code, fields: jsonType, body: fmt.Sprintf(
		`{"kind":"Status","apiVersion":"v1","status":"Failure","message":"said by the fake upstream of rawbytes-proxy-account","reason":%q,"code":%d}`, reason, code)}
}

func fake(r *Record) string {
	_, q, _ := strings.Cut(r.Target, "?")
	_, v, _ := strings.Cut(q, "fake=")
	v, _, _ = strings.Cut(v, "&")
	return v
}

func plainReply(r *Record) reply {
	ok := reply{status: 200, fields: Fields{{"Content-Type", "text/plain"}}, body: Served + "somebody"}
	switch fake(r) {
	case "401":
		return statusReply(401, "Unauthorized")
	case "403":
		return statusReply(403, "Forbidden")
	case "redirect":
		return reply{status: 302, fields: Fields{{"Location", "https://elsewhere.invalid/"}}}
	case "watch":
		return reply{status: 200, fields: jsonType, body: `{"type":"ADDED"}` + "\n", held: true}
	case "sized":
		return reply{status: 200, fields: jsonType, body: `{"items":[` + strings.Repeat("0,", 6000), held: true, length: 100_000} // more than buffers hold
	case "stall":
		ok.stalled = true
	case "101":
		return reply{status: 101, raw: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", tunnel: true}
	case "headers":
		ok.fields = append(ok.fields,
			Field{"Alt-Svc", `h3=":443"`}, Field{"WWW-Authenticate", "Basic realm=upstream"},
			Field{"Access-Control-Allow-Origin", "*"}, Field{"Access-Control-Allow-Credentials", "true"},
			Field{"Set-Cookie", "session=upstream"}, Field{"X-Kubernetes-Pf-Flowschema-Uid", "flow-1"},
			Field{"Warning", `299 - "from the API server"`}, Field{"Etag", `"tag-1"`})
	case "hop":
		if r.Proto == "HTTP/1.1" {
			ok.fields = append(ok.fields, Field{"Connection", "X-Hop, Audit-Id"}, Field{"X-Hop", "1"},
				Field{"Keep-Alive", "timeout=5"}, Field{"Proxy-Authenticate", "Basic realm=upstream"}, Field{"Upgrade", "h2c"})
		}
	case "big-header":
		ok.fields = append(ok.fields, Field{"X-Big", strings.Repeat("x", 12<<20)})
	case "split":
		return reply{status: 200, raw: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned"}
	case "surplus":
		return reply{status: 200, raw: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned"}
	}
	return ok
}

const webSocketGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

func upgradeReply(r *Record, proto string) reply {
	answered := proto
	switch fake(r) {
	case "refuse":
		return statusReply(403, "Forbidden")
	case "401":
		return statusReply(401, "Unauthorized")
	case "redirect":
		return reply{status: 302, fields: Fields{{"Location", "https://elsewhere.invalid/"}}}
	case "mismatch":
		answered = "h2c"
	}
	sum := sha1.Sum([]byte(r.Fields.Get("Sec-WebSocket-Key") + webSocketGUID))
	raw := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + answered + "\r\n"
	if strings.EqualFold(proto, "websocket") {
		raw += "Sec-WebSocket-Accept: " + base64.StdEncoding.EncodeToString(sum[:]) + "\r\n"
		if p := r.Fields.Get("Sec-WebSocket-Protocol"); p != "" {
			first, _, _ := strings.Cut(p, ",")
			raw += "Sec-WebSocket-Protocol: " + strings.TrimSpace(first) + "\r\n"
		}
	} else {
		raw += "X-Stream-Protocol-Version: v4.channel.k8s.io\r\n"
	}
	return reply{status: 101, raw: raw + "\r\n", tunnel: true}
}
