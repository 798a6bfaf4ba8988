package entra

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	josejson "github.com/go-jose/go-jose/v4/json"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/oidc/lookup"
)

// memberGroups is Graph's answer to getMemberGroups. Graph names no next page of
// this answer; if it did, the groups would not be all.
type memberGroups struct {
	Value    *[]string `json:"value"`
	NextLink string    `json:"@odata.nextLink"`
}

// graphError is Graph's answer to what failed.
type graphError struct {
	Error struct {
		Code string `json:"code"`
	} `json:"error"`
}

// errCode is Graph's verdict on a question.
type errCode struct {
	status int
	code   string
	pause  time.Duration // how long to ask nothing, if it said so
}

func (e *errCode) Error() string {
	return fmt.Sprintf("Microsoft Graph answers %d %s", e.status, e.code)
}

// groupsOf asks Graph in which groups a person is, those of groups included.
func (r *Resolver) groupsOf(ctx context.Context, person string) (none lookup.Answer[[]any], err error) {
	if wait := time.Unix(0, r.paused.Load()).Sub(r.cfg.Lookup.Now()); wait > 0 {
		return none, fmt.Errorf("nothing is asked of Microsoft Graph for %s, as it demanded", wait.Round(time.Second))
	}
	groups, err := r.askGraph(ctx, person)
	if code, ok := errors.AsType[*errCode](err); ok && code.status == http.StatusUnauthorized {
		// Our token was withdrawn before its end.
		r.forgetToken()
		groups, err = r.askGraph(ctx, person)
	}
	if code, ok := errors.AsType[*errCode](err); ok {
		return none, r.judge(code)
	}
	if err != nil {
		return none, err
	}
	kept := make([]any, 0, min(len(groups), r.cfg.MaxGroups))
	for _, raw := range groups {
		id, err := GUID(raw)
		if err != nil {
			return none, errors.New("the answer of Microsoft Graph names a group that is no id")
		}
		if r.wanted == nil || r.wanted[id] {
			kept = append(kept, id)
		}
	}
	if len(kept) > r.cfg.MaxGroups {
		return none, auth.Refuse(auth.KindOIDC, auth.IdentityTooLarge, fmt.Sprintf("the person is in %d groups, the limit is %d: name those that count in GATEHOUSE_ENTRA_GROUPS", len(kept), r.cfg.MaxGroups))
	}
	return lookup.Answer[[]any]{Value: kept, Size: len(kept) * 64}, nil
}

// judge turns an error of Graph's into what it means for the person. What it says
// of us stays an error.
func (r *Resolver) judge(code *errCode) error {
	switch {
	case code.status == http.StatusNotFound && code.code == "Request_ResourceNotFound":
		return auth.Refuse(auth.KindOIDC, auth.GroupsRefused, "Microsoft Graph knows no user with the token's `oid`")
	case code.code == "Directory_ResultSizeLimitExceeded":
		return auth.Refuse(auth.KindOIDC, auth.IdentityTooLarge, "the person is in more groups than Microsoft Graph returns")
	case code.pause > 0:
		r.paused.Store(r.cfg.Lookup.Now().Add(code.pause).UnixNano())
	}
	return code
}

func (r *Resolver) askGraph(ctx context.Context, person string) ([]string, error) {
	token, err := r.token(ctx)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.cfg.GraphURL+"/v1.0/users/"+person+"/getMemberGroups",
		strings.NewReader(`{"securityEnabledOnly": true}`))
	if err != nil {
		return nil, lookup.Cause(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, body, err := lookup.Send(r.client, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, &errCode{status: resp.StatusCode, code: codeOf(body), pause: pauseOf(resp)}
	}
	var answer memberGroups
	if err := josejson.Unmarshal(body, &answer); err != nil || answer.Value == nil || answer.NextLink != "" {
		return nil, errors.New("the answer of Microsoft Graph is not all groups of a person")
	}
	return *answer.Value, nil
}

// plainCode is the form of Graph's and Entra's error codes.
var plainCode = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,80}$`)

func codeOf(body []byte) string {
	var failure graphError
	if josejson.Unmarshal(body, &failure) != nil || !plainCode.MatchString(failure.Error.Code) {
		return ""
	}
	return failure.Error.Code
}

// Bounds on how long Graph can make us ask nothing.
const (
	shortestPause = time.Second
	defaultPause  = 10 * time.Second
	longestPause  = 5 * time.Minute
)

// pauseOf returns what Graph's throttling demands.
func pauseOf(resp *http.Response) time.Duration {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	seconds, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 31)
	switch {
	case err == nil:
		return min(max(time.Duration(seconds)*time.Second, shortestPause), longestPause)
	case resp.StatusCode == http.StatusTooManyRequests:
		return defaultPause
	default:
		return 0
	}
}
