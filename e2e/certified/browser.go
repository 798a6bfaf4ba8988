package certified

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/html"
)

// maxSteps is how many pages and redirects a sign-in may take.
const maxSteps = 20

// errNoForm says that there is nothing to fill in on a page.
var errNoForm = errors.New("no form")

// browser holds the cookies of one sign-in.
type browser struct {
	client *http.Client
	login  string
}

func newBrowser(roots *x509.CertPool, login string) (*browser, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, fmt.Errorf("make a cookie jar: %w", err)
	}
	return &browser{login: login, client: &http.Client{
		Jar:       jar,
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // the last redirect leads to no server
		},
	}}, nil
}

func (b *browser) close() { b.client.CloseIdleConnections() }

// walk follows redirects and fills in forms from address on. It ends at a
// redirect to redirectURI and returns what the client is sent back with, or at
// a page without a form and returns nil.
func (b *browser) walk(ctx context.Context, address string) (url.Values, error) {
	var form url.Values
	for range maxSteps {
		resp, page, err := b.send(ctx, address, form)
		if err != nil {
			return nil, err
		}
		form = nil
		switch {
		case resp.StatusCode/100 == 3:
			next, err := resp.Location()
			if err != nil {
				return nil, err
			}
			if strings.HasPrefix(next.String(), redirectURI+"?") {
				return next.Query(), nil
			}
			address = next.String()
		case resp.StatusCode == http.StatusOK:
			address, form, err = b.fillIn(resp.Request.URL, page)
			if errors.Is(err, errNoForm) {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("%s answered %s: %.300s", resp.Request.URL.Path, resp.Status, page)
		}
	}
	return nil, errors.New("the flow does not end")
}

// fillIn answers the first form of a page as the person would: what is hidden
// stays, and the login name and a password go where they are asked for. It
// returns where the form is sent to, and with what.
func (b *browser) fillIn(at *url.URL, page string) (string, url.Values, error) {
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		return "", nil, fmt.Errorf("read the page %s: %w", at.Path, err)
	}
	var form *html.Node
	values := url.Values{}
	for node := range root.Descendants() {
		if node.Type == html.ElementNode && node.Data == "form" {
			form = node
			break
		}
	}
	if form == nil {
		return "", nil, errNoForm
	}
	for node := range form.Descendants() {
		if node.Data != "input" {
			continue
		}
		switch name := attribute(node, "name"); {
		case name == "login":
			values.Set(name, b.login)
		case attribute(node, "type") == "password":
			values.Set(name, "any")
		default:
			values.Set(name, attribute(node, "value"))
		}
	}
	target, err := at.Parse(attribute(form, "action"))
	if err != nil {
		return "", nil, fmt.Errorf("read the form of %s: %w", at.Path, err)
	}
	return target.String(), values, nil
}

func attribute(node *html.Node, name string) string {
	for _, a := range node.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// send posts form, or gets if it is nil, and returns the answer and its body.
func (b *browser) send(ctx context.Context, address string, form url.Values) (*http.Response, string, error) {
	method := http.MethodGet
	if form != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, "", err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp, string(page), err
}
