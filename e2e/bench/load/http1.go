package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// userAgent is as kubectl has it.
const userAgent = "kubectl/v1.37.2 (linux/amd64) kubernetes/0000000"

// client1 is a connection of HTTP/1.1.
type client1 struct {
	conn    net.Conn
	r       *bufio.Reader
	request []byte
	body    int64 // how long an answer must be
}

func newClient1(conn net.Conn, p Plan, token string) *client1 {
	return &client1{conn: conn, r: bufio.NewReaderSize(conn, 64<<10), request: request1(p, token), body: p.BodyBytes}
}

// request1 is what a plan sends, with a token.
func request1(p Plan, token string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nAccept: application/json\r\n"+
		"Accept-Encoding: gzip\r\nAuthorization: Bearer %s\r\n\r\n", p.Path, p.Address, userAgent, token)
}

func (c *client1) close() error { return c.conn.Close() }

func (c *client1) run(*measurement, int) error {
	return errors.New("HTTP/1.1 has one request at a time on a connection")
}

// answerTimeout limits how long an answer may take.
const answerTimeout = 30 * time.Second

func (c *client1) once() error {
	if err := c.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	if _, err := c.conn.Write(c.request); err != nil {
		return fmt.Errorf("write a request: %w", err)
	}
	length, err := c.header()
	if err != nil {
		return err
	}
	got := length
	if length < 0 {
		got, err = c.chunks()
	} else {
		err = c.discard(length)
	}
	if err == nil && got != c.body {
		err = fmt.Errorf("the answer has %d bytes, not %d", got, c.body)
	}
	return err
}

// header reads the header of an answer and returns how long its body is, -1 if
// it comes in chunks.
func (c *client1) header() (int64, error) {
	status, err := c.line()
	if err != nil {
		return 0, err
	}
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200")) {
		return 0, fmt.Errorf("the answer is %q", status)
	}
	length := int64(-2)
	for {
		line, err := c.line()
		if err != nil {
			return 0, err
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64); err != nil {
				return 0, fmt.Errorf("read the length of an answer: %w", err)
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			length = -1
		}
	}
	if length == -2 {
		return 0, errors.New("the answer has no length")
	}
	return length, nil
}

// line returns the next line without its end. It is valid until the next read.
func (c *client1) line() ([]byte, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return nil, fmt.Errorf("read an answer: %w", err)
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
}

// chunks reads a body in chunks (RFC 9112, section 7.1) and returns its length.
func (c *client1) chunks() (int64, error) {
	var sum int64
	for {
		line, err := c.line()
		if err != nil {
			return 0, err
		}
		size, err := strconv.ParseInt(string(line), 16, 64)
		if err != nil {
			return 0, fmt.Errorf("read the size of a chunk: %w", err)
		}
		if err := c.discard(size + int64(len("\r\n"))); err != nil {
			return 0, err
		}
		if sum += size; size == 0 {
			return sum, nil
		}
	}
}

func (c *client1) discard(n int64) error {
	if _, err := io.CopyN(io.Discard, c.r, n); err != nil {
		return fmt.Errorf("read a body: %w", err)
	}
	return nil
}
