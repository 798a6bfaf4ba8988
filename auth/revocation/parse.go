package revocation

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// MaxBytes is the most that a file may have.
const MaxBytes = 16 << 20

// maxParts is the most newlines, commas and brackets of a file. Each value
// needs one of them, and its node much memory: 16 MiB of commas alone would
// take 2.6 GB. It is enough for 100,000 entries of five lines.
const maxParts = 500_000

// maxFaults is the most faults that are told one by one.
const maxFaults = 100

// Parse reads a whole file. The error joins every fault of the file, each with
// its line and the path to it; it quotes no value. One fault refuses the whole
// file. A file without entries must say so: revoked: [].
func Parse(content []byte) (*List, error) {
	if fault := contentFault(content); fault != "" {
		return nil, errors.New(fault)
	}
	root, err := document(content)
	if err != nil {
		return nil, err
	}
	p := parser{list: &List{}}
	p.file(root)
	if p.more > 0 {
		p.faults = append(p.faults, fmt.Errorf("and %d more faults", p.more))
	}
	if err := errors.Join(p.faults...); err != nil {
		return nil, err
	}
	return p.list, nil
}

const sayNobody = "to revoke nothing, write: revoked: []"

// contentFault says what is wrong with the bytes of a file, or "".
func contentFault(content []byte) string {
	switch {
	case len(content) == 0:
		return "the file is empty: " + sayNobody
	case len(content) > MaxBytes:
		return fmt.Sprintf("the file has %d bytes, the limit is %d", len(content), MaxBytes)
	case bytes.HasPrefix(content, []byte("\xef\xbb\xbf")):
		return "line 1: the file begins with a byte order mark: save it as UTF-8 without one"
	case !utf8.Valid(content):
		return "the file is not valid UTF-8"
	case content[len(content)-1] != '\n':
		return fmt.Sprintf("line %d: the last line does not end in a newline, so it may have been cut off: end it with one", 1+bytes.Count(content, []byte("\n")))
	case parts(content) > maxParts:
		return fmt.Sprintf("the file has more than %d newlines, commas and brackets: it takes too much memory", maxParts)
	}
	return ""
}

// parts bounds the number of values of a file, whatever its form.
func parts(content []byte) int {
	n := 0
	for _, separator := range []string{"\n", ",", "[", "{"} {
		n += bytes.Count(content, []byte(separator))
	}
	return n
}

// document returns the one document of a file. Its values are texts still:
// nothing is converted, and no alias is followed.
func document(content []byte) (root *yaml.Node, err error) {
	defer func() {
		// go.yaml.in/yaml v3.0.5 panics for what it believes impossible, and a
		// reload must not end the process.
		if recover() != nil {
			root, err = nil, errors.New("the YAML cannot be read: write it in a simpler form")
		}
	}()
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var first, second yaml.Node
	err = decoder.Decode(&first)
	switch {
	case errors.Is(err, io.EOF):
		return nil, errors.New("the file holds nothing but comments: " + sayNobody)
	case err != nil:
		return nil, syntaxFault(err)
	}
	err = decoder.Decode(&second)
	switch {
	case err == nil:
		return nil, fmt.Errorf("line %d: a second YAML document begins here: put all entries into the first", second.Line)
	case !errors.Is(err, io.EOF):
		return nil, syntaxFault(err)
	}
	return first.Content[0], nil
}

func syntaxFault(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if strings.Contains(text, "unknown anchor") { // quotes the file
		text = "an alias of nothing: put a text that begins with * in quotes"
	}
	return fmt.Errorf("not YAML: %s", text)
}

type parser struct {
	list   *List
	faults []error
	more   int
}

func (p *parser) fault(n *yaml.Node, path, format string, args ...any) {
	if len(p.faults) >= maxFaults {
		p.more++
		return
	}
	at := fmt.Sprintf("line %d: ", n.Line)
	if path != "" {
		at += path + ": "
	}
	p.faults = append(p.faults, fmt.Errorf("%s%w", at, fmt.Errorf(format, args...)))
}

// file reads the top level.
func (p *parser) file(root *yaml.Node) {
	fields, ok := p.fields(root, "", []string{"revoked", "count"})
	if !ok {
		return
	}
	revoked := fields["revoked"]
	switch {
	case revoked == nil:
		p.fault(root, "revoked", "is missing: %s", sayNobody)
		return
	case !p.plain(revoked, "revoked"):
		return
	case revoked.Tag == "!!null":
		p.fault(revoked, "revoked", "has no value: %s", sayNobody)
		return
	case revoked.Kind != yaml.SequenceNode:
		p.fault(revoked, "revoked", "must be a list")
		return
	}
	p.list.entries = len(revoked.Content)
	if count := fields["count"]; count != nil {
		p.count(count)
	}
	for i, n := range revoked.Content {
		p.entry(i, n)
	}
}

// count compares the number of entries with the one that the file tells. A
// file that was cut off between two entries shows by nothing else.
func (p *parser) count(n *yaml.Node) {
	if !p.plain(n, "count") {
		return
	}
	count, err := strconv.Atoi(n.Value)
	switch {
	case n.Tag != "!!int" || err != nil || count < 0:
		p.fault(n, "count", "must be the number of entries")
	case count != p.list.entries:
		p.fault(n, "count", "is %d, and the file has %d entries: it may have been cut off", count, p.list.entries)
	}
}

// fields returns the values of a mapping that may have the fields known. The
// result is false if n is no mapping.
func (p *parser) fields(n *yaml.Node, path string, known []string) (map[string]*yaml.Node, bool) {
	if !p.plain(n, path) {
		return nil, false
	}
	if n.Kind != yaml.MappingNode {
		p.fault(n, path, "must be a mapping with some of the fields %s", strings.Join(known, ", "))
		return nil, false
	}
	fields, lines := map[string]*yaml.Node{}, map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case !p.plain(key, path):
		case key.Kind != yaml.ScalarNode:
			p.fault(key, path, "the name of a field must be a text")
		case !slices.Contains(known, key.Value):
			p.fault(key, path, "%s", unknownField(key.Value, known))
		case fields[key.Value] != nil:
			p.fault(key, below(path, key.Value), "stands on line %d already", lines[key.Value])
		default:
			fields[key.Value], lines[key.Value] = value, key.Line
		}
	}
	return fields, true
}

func below(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

// plain reports whether n is what it looks like. Aliases, anchors and tags make
// a value mean something else, and nobody needs them here.
func (p *parser) plain(n *yaml.Node, path string) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		p.fault(n, path, "an alias (*…) is not followed: write the value itself")
	case n.Anchor != "":
		p.fault(n, path, "an anchor (&…) has no place here: put a text that begins with & in quotes")
	case n.Style&yaml.TaggedStyle != 0:
		p.fault(n, path, "a tag (!…) has no place here: put a text in quotes")
	default:
		return true
	}
	return false
}

// text returns the value of a field that must be a text. YAML takes some texts
// for something else; the tool that wrote the file may have done so too, and
// have rounded a number. So they are not repaired.
func (p *parser) text(n *yaml.Node, path string) (string, bool) {
	if !p.plain(n, path) {
		return "", false
	}
	switch {
	case n.Kind != yaml.ScalarNode:
		p.fault(n, path, "must be a text, not a list or a mapping")
	case n.Tag == "!!null":
		p.fault(n, path, "has no value")
	case n.Tag != "!!str":
		p.fault(n, path, "is %s to YAML: put the text in quotes", meaning(n.Tag))
	default:
		if fault := textFault(n.Value); fault != "" {
			p.fault(n, path, "%s", fault)
			return "", false
		}
		return n.Value, true
	}
	return "", false
}

func meaning(tag string) string {
	switch tag {
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!timestamp":
		return "a date"
	default:
		return "something else than a text"
	}
}
