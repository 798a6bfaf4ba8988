package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// presented is the credential to explain: a token, or certificates.
type presented struct {
	token string
	chain []*x509.Certificate
}

// request returns a request that carries c and nothing else.
func (c presented) request(ctx context.Context) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	if err != nil {
		return nil, err
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.chain != nil {
		r.TLS = &tls.ConnectionState{PeerCertificates: c.chain}
	}
	return r, nil
}

var errInterrupted = errors.New("interrupted")

// maxInput is the most that is read for a token: enough to tell that one is too
// long, and for a token within an ExecCredential.
const maxInput = 4 * auth.MaxTokenBytes

// readToken reads a token from a file, or from stdin where file is "" or "-".
func readToken(ctx context.Context, file string, stdin io.Reader, stderr io.Writer) (string, error) {
	content, err := readInput(ctx, file, stdin, stderr)
	if err != nil {
		return "", err
	}
	return cleanToken(content)
}

func readInput(ctx context.Context, file string, stdin io.Reader, stderr io.Writer) ([]byte, error) {
	if file != "" && file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return nil, usageError{fmt.Errorf("--token-file: %w", err)}
		}
		defer opened.Close()
		return readAll(opened)
	}
	if terminal, ok := stdin.(*os.File); ok && term.IsTerminal(int(terminal.Fd())) {
		return prompt(ctx, terminal, stderr)
	}
	type result struct {
		content []byte
		err     error
	}
	read := make(chan result, 1)
	go func() { // a pipe that nobody writes to must not outlast an interrupt
		content, err := readAll(stdin)
		read <- result{content, err}
	}()
	select {
	case r := <-read:
		return r.content, r.err
	case <-ctx.Done():
		return nil, errInterrupted
	}
}

func readAll(r io.Reader) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(r, maxInput))
	if err != nil {
		return nil, fmt.Errorf("read the token: %w", err)
	}
	return content, nil
}

// prompt asks for a token at a terminal, without showing it. The terminal is raw
// meanwhile: by lines, it would cut a token off after 4095 bytes.
func prompt(ctx context.Context, terminal *os.File, stderr io.Writer) ([]byte, error) {
	fmt.Fprint(stderr, "Paste the token, then Enter (it is not shown): ")
	defer fmt.Fprintln(stderr)
	state, err := term.MakeRaw(int(terminal.Fd()))
	if err != nil {
		return nil, fmt.Errorf("read the token: %w", err)
	}
	// What else could be done if the terminal is gone?
	defer func() { _ = term.Restore(int(terminal.Fd()), state) }()
	type result struct {
		line []byte
		err  error
	}
	read := make(chan result, 1)
	go func() {
		line, err := readLine(terminal)
		read <- result{line, err}
	}()
	select {
	case r := <-read:
		return r.line, r.err
	case <-ctx.Done():
		return nil, errInterrupted
	}
}

// readLine reads until Enter from a raw terminal.
func readLine(r io.Reader) ([]byte, error) {
	const (
		interrupt, end, backspace, del, kill = 3, 4, 8, 127, 21
	)
	var line []byte
	one := make([]byte, 1)
	for len(line) < maxInput {
		if n, err := r.Read(one); err != nil && n == 0 {
			if errors.Is(err, io.EOF) {
				return line, nil
			}
			return nil, fmt.Errorf("read the token: %w", err)
		}
		switch c := one[0]; c {
		case '\r', '\n', end:
			return line, nil
		case interrupt:
			return nil, errInterrupted
		case backspace, del:
			line = line[:max(0, len(line)-1)]
		case kill:
			line = line[:0]
		default:
			line = append(line, c)
		}
	}
	return line, nil
}

// cleanToken takes the token out of what people have at hand: an Authorization
// header's value, or what an exec plugin prints.
func cleanToken(content []byte) (string, error) {
	text := strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	if strings.HasPrefix(text, "{") {
		var credential struct {
			Status struct{ Token string }
		}
		if json.Unmarshal(content, &credential) != nil || credential.Status.Token == "" {
			return "", usageError{errors.New("this is no token: it begins like JSON, and is no ExecCredential with a status.token")}
		}
		text = credential.Status.Token
	}
	const scheme = "bearer "
	if len(text) >= len(scheme) && strings.EqualFold(text[:len(scheme)], scheme) {
		text = text[len(scheme):]
	}
	switch {
	case strings.TrimSpace(text) == "":
		return "", usageError{errors.New("no token was given: pipe it in, or name its file with --token-file")}
	case strings.Contains(text, "-----BEGIN CERTIFICATE"):
		return "", usageError{errors.New("this is a certificate: use --certificate")}
	case strings.ContainsAny(text, " \t\r\n"):
		return "", usageError{errors.New("this is more than one token, or has white space within or around it: give one token alone")}
	}
	return text, nil
}

// readChain reads the certificates that a client would present, its own first.
// A key beside them is not looked at.
func readChain(file string) ([]*x509.Certificate, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, usageError{fmt.Errorf("--certificate: %w", err)}
	}
	var chain []*x509.Certificate
	for rest := bytes.TrimSpace(content); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, usageError{fmt.Errorf("--certificate: %s: certificate %d: %w", file, len(chain)+1, err)}
		}
		chain = append(chain, certificate)
	}
	if len(chain) == 0 {
		return nil, usageError{fmt.Errorf("--certificate: %s holds no certificate in PEM", file)}
	}
	return chain, nil
}
