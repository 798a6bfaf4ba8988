package proxy

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// maxForbidden is how much of a 403 is looked at. A Status has some hundred
	// bytes; paths and names in it are the caller's.
	maxForbidden = 16 << 10
	// forbiddenTime is how long that may take to arrive. The API server sends it
	// with the header; an application behind the proxy subresource may not.
	forbiddenTime = time.Second
)

// pastImpersonation is a header that kube-apiserver puts into every answer that
// its priority and fairness has seen, and that is after impersonation (v1.37,
// pkg/server/config.go, DefaultBuildHandlerChain). What is behind the API server
// cannot take it away. Long-running requests other than watches do not have it,
// nor has any where that feature is off.
const pastImpersonation = "X-Kubernetes-Pf-Flowschema-Uid"

// ownRefusal is a 403 about gatehouse's own account.
type ownRefusal struct {
	message string // what the API server says, bounded
	// certain says that nobody but the API server can have written it, unless its
	// priority and fairness is off.
	certain bool
}

func (e *ownRefusal) Error() string { return "403 about gatehouse's own account: " + e.message }

// checkForbidden returns an *ownRefusal if resp is a 403 about gatehouse's own
// account. Any other answer stays as it is, byte for byte.
//
// Whoever runs an application that the API server passes requests on to can write
// such a body too: it would have its own callers told a neutral sentence in its
// place. Nothing more may follow from what is not certain.
func (p *Proxy) checkForbidden(x *exchange, resp *http.Response) error {
	if resp.StatusCode != http.StatusForbidden || x.token != "" {
		return nil
	}
	certain := resp.Header[pastImpersonation] == nil && (x.kind.watch || !x.kind.stream)
	text := plainText(peek(resp))
	start := -1
	if p.cfg.Self != nil {
		if name := p.cfg.Self(); name != "" {
			start = strings.Index(text, "User "+strconv.Quote(name)+" cannot ")
		}
	}
	if start < 0 && certain {
		if at := strings.Index(text, `" cannot impersonate`); at > 0 {
			start = strings.LastIndex(text[:at], `User "`)
		}
	}
	if start < 0 {
		return nil
	}
	message, _, _ := strings.Cut(text[start:], `","reason"`) // of JSON, the rest is of no interest
	message, _, _ = strings.Cut(message, `", "reason"`)      // nor is it of JSON for people
	return &ownRefusal{message: Bounded(message), certain: certain}
}

// written undoes how kube-apiserver writes a sentence (v1.37, pkg/endpoints/
// handlers/responsewriters/errors.go), and JSON and YAML quote it. In protobuf and
// CBOR it stands as it is.
var written = strings.NewReplacer(`\\`, `\`, `\"`, `"`, "&amp;", "&", "&lt;", "<", "&gt;", ">")

// plainText returns the text in a Status of any encoding so that it can be
// searched. YAML breaks lines.
func plainText(body []byte) string {
	return strings.Join(strings.Fields(written.Replace(string(body))), " ")
}

// peek returns the beginning of an answer's body, and puts it back. It returns
// nothing if that does not arrive in time.
func peek(resp *http.Response) []byte {
	size := resp.ContentLength
	if size <= 0 || size > maxForbidden {
		size = maxForbidden
	}
	h := &head{ReadCloser: resp.Body, read: make(chan struct{})}
	go h.begin(make([]byte, size))
	resp.Body = h
	select {
	case <-h.read:
		return h.content
	case <-time.After(forbiddenTime):
		h.enough.Store(true)
		return nil
	}
}

// head is a body whose beginning somebody else reads, or has read.
type head struct {
	io.ReadCloser
	enough  atomic.Bool   // nobody waits for more of it
	read    chan struct{} // closed once the beginning is there
	content []byte
	err     error
}

// begin reads until buffer is full, the body ends, or nobody waits any more: what
// comes slowly is then passed on as it comes.
func (h *head) begin(buffer []byte) {
	defer close(h.read)
	for len(h.content) < len(buffer) && h.err == nil && !h.enough.Load() {
		var n int
		n, h.err = h.ReadCloser.Read(buffer[len(h.content):])
		h.content = buffer[:len(h.content)+n]
	}
}

// Read reads the body from its beginning. Close ends the reading of that.
func (h *head) Read(p []byte) (int, error) {
	<-h.read
	if len(h.content) > 0 {
		n := copy(p, h.content)
		h.content = h.content[n:]
		return n, nil
	}
	if h.err != nil {
		return 0, h.err
	}
	return h.ReadCloser.Read(p)
}

// accountForbidden answers a request that the API server refused to gatehouse's
// account. The caller learns that it is not theirs, and not whose.
func (p *Proxy) accountForbidden(x *exchange, r *http.Request, refusal *ownRefusal) {
	if refusal.certain && p.cfg.NotReady != nil && p.cfg.NotReady() {
		// kube-apiserver serves while it still reads who may do what. Nothing was
		// done for the caller, who may send it again whatever it is.
		x.upstreamErr = refusal
		p.metrics.upstreamFailed(upstreamStarts)
		p.answer(x, r, upstreamStarts)
		return
	}
	if strings.Contains(refusal.message, "cannot impersonate-on:") && p.cfg.MayName != nil && p.cfg.MayName() {
		p.cfg.Log.Info("gatehouse's own account may not do this for anybody", "audit_id", x.id, "answer", refusal.message)
		p.answer(x, r, narrowDoor)
		return
	}
	x.upstreamErr = refusal
	p.cfg.Log.Error("the API server refuses gatehouse's own account: grant it the rights that gatehouse check --connect names",
		"audit_id", x.id, "answer", refusal.message, "certain", refusal.certain)
	if refusal.certain {
		p.metrics.upstreamFailed(upstreamForbids)
		if p.cfg.OnForbidden != nil {
			p.cfg.OnForbidden()
		}
	}
	p.answer(x, r, upstreamForbids)
}
