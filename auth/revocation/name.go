package revocation

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// attributeTypes are the names of attributes: those of pkix.Name.String, and
// what openssl prints and Go does not (RFC 4519, RFC 2985).
var attributeTypes = map[string]asn1.ObjectIdentifier{
	"CN":           {2, 5, 4, 3},
	"SERIALNUMBER": {2, 5, 4, 5},
	"C":            {2, 5, 4, 6},
	"L":            {2, 5, 4, 7},
	"ST":           {2, 5, 4, 8},
	"STREET":       {2, 5, 4, 9},
	"O":            {2, 5, 4, 10},
	"OU":           {2, 5, 4, 11},
	"POSTALCODE":   {2, 5, 4, 17},
	"TITLE":        {2, 5, 4, 12},
	"UID":          {0, 9, 2342, 19200300, 100, 1, 1},
	"DC":           {0, 9, 2342, 19200300, 100, 1, 25},
	"EMAILADDRESS": {1, 2, 840, 113549, 1, 9, 1},

	"ORGANIZATIONIDENTIFIER": {2, 5, 4, 97},
}

// nameForm returns a distinguished name (RFC 4514) in the form of
// auth.Credential, which is that of pkix.Name.String. It has an order of its own
// and writes some attributes in hex, so that the name is taken to pieces and put
// together as crypto/x509 does with that of a certificate.
func nameForm(text string) (form, fault string) {
	sequence, err := parseName(text)
	if err != nil {
		return "", fmt.Sprintf("%v: print the name with openssl x509 -noout -issuer -nameopt RFC2253, and leave out issuer=", err)
	}
	var name pkix.Name
	name.FillFromRDNSequence(&sequence)
	if form = name.String(); form == "" {
		return "", "names nobody"
	}
	return form, ""
}

// parseName reads RFC 4514: the last part of the name comes first.
func parseName(text string) (pkix.RDNSequence, error) {
	var sequence pkix.RDNSequence
	var set pkix.RelativeDistinguishedNameSET
	for {
		name, rest, found := strings.Cut(text, "=")
		if !found {
			return nil, errors.New("a part of the name has no =")
		}
		oid, err := attributeType(name)
		if err != nil {
			return nil, err
		}
		value, end, err := attributeValue(rest)
		if err != nil {
			return nil, err
		}
		set = append(set, pkix.AttributeTypeAndValue{Type: oid, Value: value})
		last := end == len(rest)
		if last || rest[end] == ',' {
			sequence = append(sequence, set)
			set = nil
		}
		if last {
			slices.Reverse(sequence)
			return sequence, nil
		}
		text = rest[end+1:]
	}
}

func attributeType(name string) (asn1.ObjectIdentifier, error) {
	if oid, found := attributeTypes[strings.ToUpper(name)]; found {
		return oid, nil
	}
	var oid asn1.ObjectIdentifier
	for arc := range strings.SplitSeq(name, ".") {
		n, err := strconv.ParseUint(arc, 10, 31)
		if err != nil {
			return nil, errors.New("a part of the name has an unknown type, or one with white space before it: known are CN, O, OU, C, L, ST, STREET, POSTALCODE, SERIALNUMBER, DC, UID, title, emailAddress, organizationIdentifier and dotted numbers")
		}
		oid = append(oid, int(n))
	}
	return oid, nil
}

// attributeValue reads the value at the beginning of text, and returns where it
// ends: at a comma, a plus or the end.
func attributeValue(text string) (value string, end int, err error) {
	if strings.HasPrefix(text, "#") {
		return encodedValue(text)
	}
	var b strings.Builder
	trailing := false // whether b ends in a blank that was not escaped
	for end < len(text) {
		c := text[end]
		switch {
		case c == ',' || c == '+':
			if trailing {
				return "", 0, errBlank
			}
			return b.String(), end, nil
		case c == ' ' && b.Len() == 0:
			return "", 0, errBlank
		case strings.IndexByte(`"<>;`, c) >= 0:
			return "", 0, fmt.Errorf("%q must stand after a backslash", c)
		case c == '\\':
			escaped, length, err := unescape(text[end+1:])
			if err != nil {
				return "", 0, err
			}
			b.WriteByte(escaped)
			end += 1 + length
		default:
			b.WriteByte(c)
			end++
		}
		trailing = c == ' '
	}
	if trailing {
		return "", 0, errBlank
	}
	return b.String(), end, nil
}

var errBlank = errors.New("a part of the name begins or ends with a blank")

// unescape reads what stands after a backslash: one special character, or two
// hex digits.
func unescape(text string) (c byte, length int, err error) {
	if text != "" && strings.IndexByte(` "#+,;<=>\`, text[0]) >= 0 {
		return text[0], 1, nil
	}
	if len(text) >= 2 {
		if b, err := hex.DecodeString(text[:2]); err == nil {
			return b[0], 2, nil
		}
	}
	return 0, 0, errors.New("after a backslash must stand a special character or two hex digits")
}

// encodedValue reads # and the hex of a value in DER.
func encodedValue(text string) (value string, end int, err error) {
	if end = strings.IndexAny(text, ",+"); end < 0 {
		end = len(text)
	}
	der, err := hex.DecodeString(text[1:end])
	if err != nil {
		return "", 0, errors.New("after # must stand hex digits")
	}
	var decoded any
	rest, err := asn1.Unmarshal(der, &decoded)
	value, ok := decoded.(string)
	if err != nil || len(rest) > 0 || !ok {
		return "", 0, errors.New("after # must stand a text in DER")
	}
	return value, end, nil
}
