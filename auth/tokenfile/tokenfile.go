// Package tokenfile answers: whom does the CSV file give this token to?
//
// The format is that of kube-apiserver's --token-auth-file
// (k8s.io/apiserver v0.37, pkg/authentication/token/tokenfile):
//
//	token,user,uid,"group1,group2"
//
// The groups may be left out, and columns after the fourth are ignored. In
// place of a token its SHA-256 may stand, as sha256:<64 hex digits>, so that
// the file holds no secret.
//
// Where kube-apiserver would load a row that cannot work, or that would mean
// something else than it says, the file is refused: docs/divergences.md lists
// the cases.
package tokenfile

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/kube-gatehouse/gatehouse/auth"
)

const hashPrefix = "sha256:"

// Table is the content of one file. It is never changed, so it may be shared.
type Table struct {
	// Keyed by digest: a lookup takes the same time whichever byte of a wrong
	// token differs, and no token stays in memory.
	users map[[sha256.Size]byte]*auth.Identity
}

// Len returns the number of tokens.
func (t *Table) Len() int { return len(t.users) }

// Users returns the names of those who have a token.
func (t *Table) Users() map[string]bool {
	names := make(map[string]bool, len(t.users))
	for _, id := range t.users {
		names[id.Name] = true
	}
	return names
}

// AuthenticateToken returns the user of token, or auth.ErrNotMine.
func (t *Table) AuthenticateToken(_ context.Context, token string) (*auth.Identity, error) {
	if id, ok := t.users[sha256.Sum256([]byte(token))]; ok {
		return id, nil
	}
	return nil, auth.ErrNotMine
}

// Parse reads a whole file. Names are checked by policy. The error joins every
// fault of the file, each with its line; it never holds a token.
func Parse(content []byte, policy auth.NamePolicy) (*Table, error) {
	if bytes.HasPrefix(content, []byte("\xef\xbb\xbf")) {
		return nil, errors.New("line 1: the file begins with a byte order mark, which would become part of the first token: save it as UTF-8 without one")
	}
	if len(content) > 0 && content[len(content)-1] != '\n' {
		return nil, fmt.Errorf("line %d: the last line does not end in a newline, so it may have been cut off: end it with one", 1+bytes.Count(content, []byte("\n")))
	}
	p := parser{policy: policy, table: &Table{users: map[[sha256.Size]byte]*auth.Identity{}}, lines: map[[sha256.Size]byte]int{}}
	reader := csv.NewReader(bytes.NewReader(content))
	reader.FieldsPerRecord = -1
	for {
		record, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			// After a broken quote nothing that follows can be told apart.
			p.faults = append(p.faults, csvFault(err))
			break
		}
		line, _ := reader.FieldPos(0)
		p.row(line, record)
	}
	if err := errors.Join(p.faults...); err != nil {
		return nil, err
	}
	return p.table, nil
}

func csvFault(err error) error {
	if parseErr, ok := errors.AsType[*csv.ParseError](err); ok {
		return fmt.Errorf("line %d: %w", parseErr.Line, parseErr.Err)
	}
	return fmt.Errorf("read CSV: %w", err)
}

type parser struct {
	policy auth.NamePolicy
	table  *Table
	lines  map[[sha256.Size]byte]int // where each token was first seen
	faults []error
}

func (p *parser) fault(line int, format string, args ...any) {
	p.faults = append(p.faults, fmt.Errorf("line %d: %w", line, fmt.Errorf(format, args...)))
}

// row adds one record, or the faults it has.
func (p *parser) row(line int, record []string) {
	if len(record) < 3 {
		p.fault(line, "%d columns where at least 3 are needed: token,user,uid", len(record))
		return
	}
	digest, err := tokenDigest(record[0])
	if err != nil {
		p.fault(line, "%w", err)
		return
	}
	if first, seen := p.lines[digest]; seen {
		p.fault(line, "the same token stands on line %d already", first)
		return
	}
	p.lines[digest] = line

	id := &auth.Identity{Kind: auth.KindTokenFile, User: auth.User{Name: record[1], UID: record[2]}}
	if len(record) >= 4 && record[3] != "" {
		id.Groups = strings.Split(record[3], ",")
	}
	if err := p.policy.Check(auth.KindTokenFile, &id.User); err != nil {
		refusal, ok := errors.AsType[*auth.Refusal](err)
		if !ok {
			p.fault(line, "%w", err)
			return
		}
		hint := ""
		if refusal.Reason == auth.ReservedName {
			hint = ": name it in GATEHOUSE_ALLOWED_RESERVED_NAMES if a token may carry it"
		}
		p.fault(line, "%s%s", refusal.Detail, hint)
		return
	}
	p.table.users[digest] = id
}

// tokenDigest returns the SHA-256 that a token column stands for.
func tokenDigest(column string) (digest [sha256.Size]byte, err error) {
	if len(column) >= len(hashPrefix) && strings.EqualFold(column[:len(hashPrefix)], hashPrefix) {
		sum, err := hex.DecodeString(column[len(hashPrefix):])
		if err != nil || len(sum) != sha256.Size || !strings.HasPrefix(column, hashPrefix) {
			return digest, fmt.Errorf("%s, in lower case, must be followed by the 64 hex digits of a token's SHA-256", hashPrefix)
		}
		return [sha256.Size]byte(sum), nil
	}
	switch {
	case column == "":
		return digest, errors.New("the token is empty")
	case !auth.IsBearerToken(column):
		return digest, errors.New("the token holds white space, a comma or another character that no client can send in a header")
	}
	return sha256.Sum256([]byte(column)), nil
}
