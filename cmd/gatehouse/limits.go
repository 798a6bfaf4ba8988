package main

import (
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy"
	"github.com/kube-gatehouse/gatehouse/proxy/serve"
)

// limitSettings bound what callers can use up.
type limitSettings struct {
	HeaderBytes          int `env:"MAX_HEADER_BYTES" envDefault:"262144" doc:"Bytes of a request's header, its target included. More is 431."`
	HeaderLines          int `env:"MAX_HEADER_LINES" envDefault:"1024" doc:"Lines of a request's header. More is 431."`
	TokenBytes           int `env:"MAX_TOKEN_BYTES" envDefault:"32768" doc:"Bytes of a bearer token; at most 32768. A longer one is refused before anything in it is looked at."`
	Connections          int `env:"MAX_CONNECTIONS" envDefault:"10000" doc:"Connections that may be open. One address, or /64 of IPv6, may have no more than are still free: alone, half. Others are closed at once."`
	StreamsPerConnection int `env:"MAX_STREAMS_PER_CONNECTION" envDefault:"250" doc:"Requests that one HTTP/2 connection may have under way, streams among them."`
	Requests             int `env:"MAX_REQUESTS" envDefault:"4000" doc:"Requests under way, streams not counted. A user may have no more than are still free: alone, half. More is 429."`
	RequestsPerUser      int `env:"MAX_REQUESTS_PER_USER" envDefault:"400" doc:"The same for one user. More is 429."`
	Streams              int `env:"MAX_STREAMS" envDefault:"20000" doc:"Streams under way: watch, exec, attach, port-forward, log and proxy. A user may have no more than are still free: alone, half. More is 429."`
	StreamsPerUser       int `env:"MAX_STREAMS_PER_USER" envDefault:"2000" doc:"The same for one user. More is 429."`
	FailuresPerAddress   int `env:"MAX_FAILURES_PER_ADDRESS" envDefault:"20" doc:"Failed authentications in a second from one address, or /64 of IPv6, taken over 10 seconds. With more, its credentials that were not accepted lately are judged a few at a time; the others are not held up."`
	TokenReviews         int `env:"MAX_TOKEN_REVIEWS" envDefault:"100" doc:"TokenReviews in a second of tokens that were never accepted; twice as many may come at once. More are 503."`

	HeaderTimeout time.Duration `env:"HEADER_TIMEOUT" envDefault:"32s" doc:"How long a TLS handshake may take, and then the header of a request."`
	BodyTimeout   time.Duration `env:"BODY_TIMEOUT" envDefault:"1m" doc:"How long the body of a request may take to arrive, unless it is a stream. Longer is 408."`
	AnswerTimeout time.Duration `env:"UPSTREAM_TIMEOUT" envDefault:"2m" doc:"How long the API server may take to begin an answer, unless it is to a stream. Longer is 504. A kube-apiserver ends a request after a minute, unless its --request-timeout is longer."`
	IdleTimeout   time.Duration `env:"IDLE_TIMEOUT" envDefault:"90s" doc:"How long a connection may be idle."`
}

// leastHeader has room for the longest token, in base64 too, and the rest of a
// header.
const leastHeader = 64 << 10

// check judges each limit by itself. A limit that is nothing, or less than what
// every client needs, would shut everybody out.
func (l limitSettings) check(f *faults) {
	const most = 1 << 30
	for _, limit := range []struct {
		name               string
		value, least, most int
	}{
		{"MAX_HEADER_BYTES", l.HeaderBytes, leastHeader, 16 << 20},
		{"MAX_HEADER_LINES", l.HeaderLines, 32, most},
		{"MAX_TOKEN_BYTES", l.TokenBytes, 1 << 10, auth.MaxTokenBytes},
		{"MAX_CONNECTIONS", l.Connections, 2, most},
		{"MAX_STREAMS_PER_CONNECTION", l.StreamsPerConnection, 1, 10000},
		{"MAX_REQUESTS", l.Requests, 2, most},
		{"MAX_REQUESTS_PER_USER", l.RequestsPerUser, 1, most},
		{"MAX_STREAMS", l.Streams, 2, most},
		{"MAX_STREAMS_PER_USER", l.StreamsPerUser, 1, most},
		{"MAX_FAILURES_PER_ADDRESS", l.FailuresPerAddress, 1, most},
		{"MAX_TOKEN_REVIEWS", l.TokenReviews, 1, most},
	} {
		if (limit.value < limit.least || limit.value > limit.most) && !f.has(limit.name) {
			f.add(limit.name, "%d is not between %d and %d", limit.value, limit.least, limit.most)
		}
	}
	for _, limit := range []struct {
		name  string
		value time.Duration
	}{
		{"HEADER_TIMEOUT", l.HeaderTimeout}, {"BODY_TIMEOUT", l.BodyTimeout}, {"UPSTREAM_TIMEOUT", l.AnswerTimeout}, {"IDLE_TIMEOUT", l.IdleTimeout},
	} {
		if limit.value < time.Second && !f.has(limit.name) {
			f.add(limit.name, "%s is too short: at least 1s", limit.value)
		}
	}
}

// requests returns the limits on requests.
func (l limitSettings) requests() proxy.Limits {
	return proxy.Limits{
		TokenBytes: l.TokenBytes, HeaderLines: l.HeaderLines,
		Requests: l.Requests, RequestsPerUser: l.RequestsPerUser,
		Streams: l.Streams, StreamsPerUser: l.StreamsPerUser,
		FailuresPerAddress: l.FailuresPerAddress, BodyTime: l.BodyTimeout, AnswerTime: l.AnswerTimeout,
	}
}

// connections returns the limits on connections.
func (l limitSettings) connections() serve.Limits {
	return serve.Limits{
		HeaderBytes: l.HeaderBytes, HeaderTime: l.HeaderTimeout, IdleTime: l.IdleTimeout,
		Streams: l.StreamsPerConnection, Connections: l.Connections,
	}
}
