package migrate

import (
	"errors"
	"strings"
)

// splitWords splits text as a shell does: quotes, backslashes, lines that go on,
// and comments. What a shell would put in place of a variable or a command is not
// known here, and stays as it is.
func splitWords(text string) ([]string, error) {
	var words []string
	var word strings.Builder
	started := false // also by quotes with nothing in them
	end := func() {
		if started {
			words = append(words, word.String())
		}
		word.Reset()
		started = false
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			end()
		case c == '#' && !started:
			for i+1 < len(text) && text[i+1] != '\n' {
				i++
			}
		case c == '\\':
			i++
			if rest := text[min(i, len(text)):]; strings.HasPrefix(rest, "\r\n") {
				i++
			} else if rest != "" && rest[0] != '\n' {
				word.WriteByte(rest[0])
				started = true
			}
		case c == '\'' || c == '"':
			n, err := quoted(&word, text[i:])
			if err != nil {
				return nil, err
			}
			started = true
			i += n
		default:
			word.WriteByte(c)
			started = true
		}
	}
	end()
	return words, nil
}

// quoted adds what is between the quote that text begins with and the next one to
// word, and returns how far away that is.
func quoted(word *strings.Builder, text string) (int, error) {
	quote := text[0]
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == quote:
			return i, nil
		case text[i] == '\\' && quote == '"' && i+1 < len(text) && strings.IndexByte("\"\\$`\n", text[i+1]) >= 0:
			i++
			if text[i] != '\n' {
				word.WriteByte(text[i])
			}
		default:
			word.WriteByte(text[i])
		}
	}
	return 0, errors.New("a quote is not closed")
}
