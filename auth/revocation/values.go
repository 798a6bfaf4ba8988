package revocation

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The beginnings of a credential-id (KEP-4633).
const (
	tokenID       = "JTI="
	fingerprintID = "X509SHA256="
)

// maxNote is the most bytes of a note, which is logged at each refusal.
const maxNote = 1024

// textFault says what is wrong with a text, or "". It lets pass every name that
// auth.NamePolicy lets pass, so that every user can be named.
func textFault(text string) string {
	switch {
	case text == "":
		return "is empty"
	case strings.TrimSpace(text) != text:
		return "begins or ends with white space"
	case strings.ContainsFunc(text, unicode.IsControl):
		return "holds a control character"
	case strings.ContainsRune(text, utf8.RuneError):
		return "holds U+FFFD, which stands for text that was lost"
	}
	return ""
}

func jtiFault(text string) string {
	switch {
	case strings.HasPrefix(text, "eyJ") && strings.Count(text, ".") == 2:
		return "is a whole token, which is a secret: write the value of its claim jti"
	case strings.HasPrefix(text, tokenID):
		return "begins with " + tokenID + ": leave that out, or name the field " + credentialID
	}
	return ""
}

// idForm returns the one form of a credential-id.
func idForm(text string) (form, fault string) {
	if digits, found := strings.CutPrefix(text, fingerprintID); found {
		if digits, fault = fingerprintForm(digits); fault != "" {
			return "", "after " + fingerprintID + " " + fault
		}
		return fingerprintID + digits, ""
	}
	if id, found := strings.CutPrefix(text, tokenID); !found || id == "" {
		return "", "must be " + tokenID + " or " + fingerprintID + " and what follows it, as in the extra authentication.kubernetes.io/credential-id"
	}
	return text, ""
}

// fingerprintForm returns the one form of a fingerprint: hex in lower case.
func fingerprintForm(text string) (form, fault string) {
	digits, fault := hexDigits(text)
	if fault != "" {
		return "", fault
	}
	if len(digits) != hex.EncodedLen(sha256.Size) {
		return "", fmt.Sprintf("has %d hex digits where a SHA-256 has %d: print it with openssl x509 -noout -fingerprint -sha256", len(digits), hex.EncodedLen(sha256.Size))
	}
	return digits, ""
}

// serialForm returns the one form of a serial number: hex in lower case, and no
// zeros in front.
func serialForm(text string) (form, fault string) {
	digits, fault := hexDigits(strings.TrimPrefix(text, "0x"))
	if fault != "" {
		return "", fault
	}
	if digits = strings.TrimLeft(digits, "0"); digits == "" {
		digits = "0"
	}
	return digits, ""
}

// hexDigits returns hex digits, between pairs of which colons may stand, in
// lower case.
func hexDigits(text string) (digits, fault string) {
	if strings.Contains(text, ":") {
		for pair := range strings.SplitSeq(text, ":") {
			if len(pair) != 2 {
				return "", "must have two hex digits between colons"
			}
		}
		text = strings.ReplaceAll(text, ":", "")
	}
	isNoDigit := func(c rune) bool { return !strings.ContainsRune("0123456789abcdefABCDEF", c) }
	if text == "" || strings.ContainsFunc(text, isNoDigit) {
		return "", "must be hex digits, with or without colons between pairs"
	}
	return strings.ToLower(text), ""
}

// unknownField says that name is none of known, with a hint if it resembles one.
// A name that is long could be a secret that was pasted, and is not told.
func unknownField(name string, known []string) string {
	if len(name) > 32 {
		return "unknown field"
	}
	if near := nearest(name, known); near != "" {
		return fmt.Sprintf("unknown field %q: did you mean %s?", name, near)
	}
	return fmt.Sprintf("unknown field %q: known are %s", name, strings.Join(known, ", "))
}

// nearest returns the one of known that resembles name most, or "".
func nearest(name string, known []string) string {
	name = strings.ToLower(name)
	near, least := "", min(3, len(name)/2+1)
	for _, candidate := range known {
		if d := distance(name, strings.ToLower(candidate)); d < least {
			near, least = candidate, d
		}
	}
	if near != "" || len(name) < 3 {
		return near
	}
	for _, candidate := range known {
		lower := strings.ToLower(candidate)
		if strings.Contains(lower, name) || strings.Contains(name, lower) {
			return candidate
		}
	}
	return ""
}

// distance is the number of bytes to insert, take out or change (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
