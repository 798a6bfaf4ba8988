package rawbytes

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// H1Conn is a connection that sends exactly the bytes it is given.
type H1Conn struct {
	conn *tls.Conn
	br   *bufio.Reader
}

func dial(addr string, roots *x509.CertPool, proto string) (*tls.Conn, error) {
	d := &net.Dialer{Timeout: exchangeTime}
	conn, err := tls.DialWithDialer(d, "tcp", addr, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", NextProtos: []string{proto}})
	if err != nil {
		return nil, fmt.Errorf("dial the target: %w", err)
	}
	conn.SetDeadline(time.Now().Add(exchangeTime))
	return conn, nil
}

// DialH1 offers HTTP/1.1 alone.
func DialH1(addr string, roots *x509.CertPool) (*H1Conn, error) {
	conn, err := dial(addr, roots, "http/1.1")
	if err != nil {
		return nil, err
	}
	return &H1Conn{conn, bufio.NewReader(conn)}, nil
}

// Close ends the connection.
func (c *H1Conn) Close() error { return c.conn.Close() }

// Write sends the bytes as they are.
func (c *H1Conn) Write(raw string) error {
	_, err := io.WriteString(c.conn, raw)
	return err
}

// RenderH1 writes the request as lines: Host first, then the fields in order,
// then the framing that Body and Trailers need.
func RenderH1(r Request, addr string) string {
	var b strings.Builder
	host := r.Host
	if host == "" {
		host = addr
	}
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.method(), r.Target, host)
	for _, f := range r.Fields {
		b.WriteString(f.Name + ": " + f.Value + "\r\n")
	}
	switch {
	case len(r.Trailers) > 0:
		fmt.Fprintf(&b, "Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n", len(r.Body), r.Body)
		for _, f := range r.Trailers {
			b.WriteString(f.Name + ": " + f.Value + "\r\n")
		}
	case r.Body != "":
		fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(r.Body), r.Body)
		return b.String()
	}
	b.WriteString("\r\n")
	return b.String()
}

// ReadAnswer reads the final answer to a request with the method. After a 101
// the connection is the tunnel; see [H1Conn.ReadFull].
func (c *H1Conn) ReadAnswer(method string) *Answer {
	a := &Answer{}
	for {
		h, err := ReadHead(c.br)
		if err != nil {
			if len(h.Raw) == 0 && !errors.Is(err, os.ErrDeadlineExceeded) {
				err = errNoAnswer
			}
			a.Err = err
			return a
		}
		a.Faults = append(a.Faults, h.Faults...)
		parts := strings.SplitN(h.Start, " ", 3)
		status := 0
		if len(parts) > 1 {
			status, _ = strconv.Atoi(parts[1])
		}
		if status < 100 {
			a.Err = fmt.Errorf("status line %q", h.Start)
			return a
		}
		if status < 200 && status != 101 {
			a.Interim = append(a.Interim, status)
			continue
		}
		a.Status, a.Fields = status, h.Fields
		if method != "HEAD" && status != 101 && status != 204 && status != 304 {
			h.Faults = nil
			a.Body, _, a.Err = h.Body(c.br, true)
			a.Faults = append(a.Faults, h.Faults...)
		}
		return a
	}
}

// ReadStart reads a status line and header and leaves the body on the wire.
func (c *H1Conn) ReadStart() (*Head, error) { return ReadHead(c.br) }

// ReadFull reads exactly n bytes of what follows.
func (c *H1Conn) ReadFull(n int) ([]byte, error) {
	b := make([]byte, n)
	got, err := io.ReadFull(c.br, b)
	return b[:got], err
}

// Rest reads to the end of the connection.
func (c *H1Conn) Rest() ([]byte, error) { return io.ReadAll(io.LimitReader(c.br, maxHead)) }

// CloseWrite says that nothing more will be sent.
func (c *H1Conn) CloseWrite() error { return c.conn.CloseWrite() }
