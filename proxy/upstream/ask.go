package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// StatusError is an answer of the API server that is no success.
type StatusError int

// Error says what the code means for us.
func (code StatusError) Error() string {
	switch code {
	case http.StatusUnauthorized:
		return "the API server does not accept gatehouse's own credential (401)"
	case http.StatusForbidden:
		return "gatehouse's own account may not ask this (403)"
	default:
		return fmt.Sprintf("the API server answers with status %d", int(code))
	}
}

// call sends one request as ourselves, with in as JSON unless it is nil, and
// decodes the answer into out. Errors quote neither.
func (t *Target) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		content, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(content)
	}
	req, err := http.NewRequestWithContext(ctx, method, path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
		// A review changes nothing, so it may be sent again where the connection
		// that was kept turns out to be closed. An empty value is not sent.
		req.Header["Idempotency-Key"] = []string{}
	}
	resp, err := t.roundTrip(req, "")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return StatusError(resp.StatusCode)
	}
	content, err := io.ReadAll(io.LimitReader(resp.Body, maxReview+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the answer: %w", err)
	case len(content) > maxReview:
		return fmt.Errorf("the answer has more than %d bytes", maxReview)
	case json.Unmarshal(content, out) != nil:
		return errors.New("the answer is not the JSON that was expected")
	}
	return nil
}

// Version is the API server's.
type Version struct {
	Git          string
	Major, Minor int // 0 if they cannot be read
}

// Constrained reports whether an API server of this version can constrain
// impersonation, and whether it does so only with the feature gate
// ConstrainedImpersonation.
func (v Version) Constrained() (can, gated bool) {
	gated = v.Major == 1 && v.Minor == 35
	return gated || v.Major > 1 || v.Major == 1 && v.Minor >= 36, gated
}

// LegacyAlone reports whether v is known, and too old for constrained
// impersonation.
func (v Version) LegacyAlone() bool {
	can, _ := v.Constrained()
	return v.Major > 0 && !can
}

// Version asks the API server for its version.
func (t *Target) Version(ctx context.Context) (Version, error) {
	var out struct {
		Git   string `json:"gitVersion"`
		Major string `json:"major"`
		Minor string `json:"minor"`
	}
	if err := t.call(ctx, http.MethodGet, "/version", nil, &out); err != nil {
		return Version{}, err
	}
	v := Version{Git: out.Git}
	// Some vendors write "36+".
	v.Major, _ = strconv.Atoi(strings.TrimRight(out.Major, "+"))
	v.Minor, _ = strconv.Atoi(strings.TrimRight(out.Minor, "+"))
	return v, nil
}
