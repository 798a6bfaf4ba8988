package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf16"
)

// shown returns text that somebody else wrote as it may be put on a terminal:
// quoted if it holds what a terminal would act upon or nobody could see.
func shown(text string) string {
	if text != "" && text[0] != '"' && strings.TrimSpace(text) == text && !strings.ContainsFunc(text, unseen) {
		return text
	}
	return strconv.Quote(text)
}

// phrase is shown for a sentence of ours that may quote what others wrote: it
// can begin with a quotation mark of its own.
func phrase(text string) string {
	if strings.ContainsFunc(text, unseen) {
		return strconv.Quote(text)
	}
	return text
}

// unseen reports whether c is a control character, changes the direction of
// text, is another kind of white space, or is no character at all.
func unseen(c rune) bool { return !strconv.IsPrint(c) || c == '\uFFFD' }

// writeJSON writes v for people and programs. What a terminal would act upon is
// escaped, beyond what JSON asks for.
func writeJSON(w io.Writer, v any) error {
	var raw bytes.Buffer
	encoder := json.NewEncoder(&raw)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	var b strings.Builder
	for _, c := range raw.String() {
		switch {
		case c == '\n' || strconv.IsPrint(c):
			b.WriteRune(c)
		case c > 0xFFFF:
			high, low := utf16.EncodeRune(c)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default: // within a string: elsewhere JSON has none of these
			fmt.Fprintf(&b, `\u%04x`, c)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
