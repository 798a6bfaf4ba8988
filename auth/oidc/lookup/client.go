package lookup

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// MaxBody is the most that is read of an answer.
const MaxBody = 1 << 20

// NewClient returns a client that reaches the server that it is sent to, and no
// other: it follows no redirect, and uses no proxy of the environment and no
// cookies. Roots verify the server; nil stands for the system's.
func NewClient(roots *x509.CertPool) *http.Client {
	const patience = 5 * time.Second
	return &http.Client{
		Timeout: 2 * patience,
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: patience}).DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    patience,
			MaxResponseHeaderBytes: 64 << 10,
			MaxConnsPerHost:        32,
			IdleConnTimeout:        time.Minute,
			DisableCompression:     true,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Send returns the answer to req, read whole, of at most [MaxBody]. Its errors
// name the server and quote nothing else of the request or the answer.
func Send(client *http.Client, req *http.Request) (*http.Response, []byte, error) {
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, fmt.Errorf("ask %s: %w", req.URL.Host, Cause(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody+1))
	if err != nil {
		return nil, nil, fmt.Errorf("ask %s: %w", req.URL.Host, err)
	}
	if len(body) > MaxBody {
		return nil, nil, fmt.Errorf("ask %s: more than %d bytes", req.URL.Host, MaxBody)
	}
	return resp, body, nil
}

// Cause returns err without the URL that net/http puts before it.
func Cause(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}
