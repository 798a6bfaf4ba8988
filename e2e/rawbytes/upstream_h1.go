package rawbytes

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strings"
)

// bodyCut is the fault of a request whose body ended before its announced end.
const bodyCut = "body cut short"

// serveH1 reads requests by a parser of its own, so that nothing is repaired
// before it is recorded.
func (u *Upstream) serveH1(c net.Conn) {
	br := bufio.NewReader(c)
	for {
		if _, err := br.Peek(1); err != nil {
			return
		}
		h, err := ReadHead(br)
		r := &Record{Proto: "HTTP/1.1", Fields: h.Fields, Raw: bytes.Clone(h.Raw), Certificate: certified(c)}
		parts := strings.Split(h.Start, " ")
		if err != nil || len(parts) != 3 {
			r.Faults = append(h.Faults, fmt.Sprintf("request cut short or start line %q", h.Start))
			u.keep(r)
			return
		}
		r.Method, r.Target = parts[0], parts[1]
		if hosts := h.Fields.All("Host"); len(hosts) == 1 {
			r.Authority = hosts[0]
		} else {
			h.fault("%d Host lines", len(hosts))
		}
		r.Faults = h.Faults
		u.keep(r)
		if len(h.Fields.All("Expect")) > 0 {
			c.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
		}
		body, trailers, err := h.Body(br, false)
		u.update(func() { r.Body, r.Trailers, r.Faults = body, trailers, h.Faults })
		if err != nil {
			u.update(func() { r.Faults = append(r.Faults, bodyCut) })
			return
		}
		if !u.answerH1(c, br, r) {
			return
		}
	}
}

// answerH1 reports whether the connection can carry another request.
func (u *Upstream) answerH1(c net.Conn, br *bufio.Reader, r *Record) bool {
	a := u.replyTo(r)
	if a.stalled {
		u.hold()
	}
	if a.raw != "" {
		if _, err := c.Write([]byte(a.raw)); err != nil {
			return false
		}
		if a.tunnel {
			u.echo(c, br, r)
			return false
		}
		return true
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\nAudit-Id: upstream-audit\r\n", a.status, http.StatusText(a.status))
	for _, f := range a.fields {
		fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
	}
	if a.held && a.length > 0 {
		fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", a.length, a.body)
		if _, err := c.Write(b.Bytes()); err != nil {
			return false
		}
		u.hold()
		return false
	}
	if a.held {
		fmt.Fprintf(&b, "Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(a.body), a.body)
		if _, err := c.Write(b.Bytes()); err != nil {
			return false
		}
		u.hold()
		_, err := fmt.Fprintf(c, "%x\r\n%s\r\n0\r\n\r\n", len(a.body), a.body)
		return err == nil
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", len(a.body))
	if r.Method != "HEAD" {
		b.WriteString(a.body)
	}
	_, err := c.Write(b.Bytes())
	return err == nil
}

func (u *Upstream) echo(c net.Conn, br *bufio.Reader, r *Record) {
	buf := make([]byte, 4096)
	for {
		n, err := br.Read(buf)
		u.update(func() { r.Tunnel = append(r.Tunnel, buf[:n]...) })
		if n > 0 {
			if _, werr := c.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
