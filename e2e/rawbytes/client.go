package rawbytes

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Request is what a client sends. Nothing in it is checked, added to or
// canonicalised, except for what [Carrier] says.
type Request struct {
	Method   string // default GET
	Target   string
	Host     string // default: the address that is dialled
	Fields   Fields
	Body     string
	Trailers Fields
}

func (r Request) method() string {
	if r.Method == "" {
		return "GET"
	}
	return r.Method
}

// With returns the request with more header lines.
func (r Request) With(f ...Field) Request {
	r.Fields = append(slices.Clone(r.Fields), f...)
	return r
}

// Answer is what came back. Status 0 means that the exchange ended without
// one, as Err says: a closed connection, or a reset stream.
type Answer struct {
	Status  int
	Fields  Fields
	Body    []byte
	Interim []int
	Err     error
	Faults  []string
}

// Text is everything of the answer that a person could read.
func (a *Answer) Text() string {
	var b strings.Builder
	for _, f := range a.Fields {
		fmt.Fprintf(&b, "%s: %s\n", f.Name, f.Value)
	}
	return b.String() + "\n" + string(a.Body)
}

// Carrier is a way for a request to travel.
type Carrier string

// The carriers. The upgrades add the lines that ask for one; a Connection line
// of the case is joined to theirs ("Upgrade, <the case's>"), so that one list
// names both.
const (
	H1        Carrier = "http1"
	H2        Carrier = "http2"
	WebSocket Carrier = "websocket"
	SPDY      Carrier = "spdy"
)

// Carriers are all of them.
var Carriers = []Carrier{H1, H2, WebSocket, SPDY}

// exchangeTime bounds one exchange; the answers take milliseconds.
const exchangeTime = 8 * time.Second

// Exchange sends one request on a fresh connection and reads one answer. An
// error means that the harness could not do so, never that gatehouse refused.
func (c Carrier) Exchange(addr string, roots *x509.CertPool, r Request) (*Answer, error) {
	if c == H2 {
		conn, err := DialH2(addr, roots)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		return conn.Exchange(r)
	}
	conn, err := DialH1(addr, roots)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.Write(RenderH1(c.Wrap(r), addr)); err != nil {
		return &Answer{Err: err}, nil
	}
	return conn.ReadAnswer(r.method()), nil
}

// Wrap adds the lines that ask for the carrier's upgrade.
func (c Carrier) Wrap(r Request) Request {
	var ask Fields
	switch c {
	case WebSocket:
		ask = Fields{{"Upgrade", "websocket"}, {"Sec-WebSocket-Version", "13"}, {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}}
		if len(r.Fields.All("Sec-WebSocket-Protocol")) == 0 {
			ask = append(ask, Field{"Sec-WebSocket-Protocol", "v5.channel.k8s.io"})
		}
	case SPDY:
		ask = Fields{{"Upgrade", "SPDY/3.1"}, {"X-Stream-Protocol-Version", "v4.channel.k8s.io"}}
	default:
		return r
	}
	joined := false
	for _, f := range r.Fields {
		if strings.EqualFold(f.Name, "Connection") && !joined {
			f.Value, joined = "Upgrade, "+f.Value, true
		}
		ask = append(ask, f)
	}
	if !joined {
		ask = append(Fields{{"Connection", "Upgrade"}}, ask...)
	}
	r.Fields = ask
	return r
}

var errNoAnswer = errors.New("closed without an answer")
