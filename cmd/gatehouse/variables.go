package main

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/kube-gatehouse/gatehouse/cmd/spelling"
)

// variable is one setting as the environment names it.
type variable struct {
	name, field, preset, doc string // name is without the prefix
}

// variables returns every setting, in the order of the struct.
func variables() []variable { return variablesOf(reflect.TypeFor[settings](), "") }

func variablesOf(t reflect.Type, prefix string) []variable {
	var all []variable
	for i := range t.NumField() {
		field := t.Field(i)
		if !field.IsExported() {
			continue
		}
		if inner := field.Tag.Get("envPrefix"); inner != "" || field.Type.Kind() == reflect.Struct {
			all = append(all, variablesOf(field.Type, prefix+inner)...)
			continue
		}
		all = append(all, variable{
			name:   prefix + field.Tag.Get("env"),
			field:  field.Name,
			preset: field.Tag.Get("envDefault"),
			doc:    field.Tag.Get("doc"),
		})
	}
	return all
}

// settingsReference returns docs/settings.md.
func settingsReference() string {
	var b strings.Builder
	b.WriteString("# Settings\n\n" +
		"Generated from the settings in `cmd/gatehouse/settings.go` by `make docs`; a test holds it current.\n\n" +
		"Settings are environment variables. An unknown variable that begins with `GATEHOUSE_` stops the\n" +
		"start, except those that Kubernetes injects for a Service named gatehouse (`GATEHOUSE_SERVICE_*`,\n" +
		"`GATEHOUSE_PORT*`). `gatehouse check` reports every fault at once. Every file is read again when its\n" +
		"content changes, and takes effect within 10 seconds; if the new content is bad, the last good one\n" +
		"stays in effect.\n\n" +
		"| variable | default | meaning |\n|---|---|---|\n")
	for _, v := range variables() {
		preset := ""
		if v.preset != "" {
			preset = "`" + v.preset + "`"
		}
		fmt.Fprintf(&b, "| `%s%s` | %s | %s |\n", envPrefix, v.name, preset, v.doc)
	}
	return b.String()
}

// settingsHelp returns the settings for --help.
func settingsHelp() string {
	var b strings.Builder
	for _, v := range variables() {
		fmt.Fprintf(&b, "  %s%s", envPrefix, v.name)
		if v.preset != "" {
			fmt.Fprintf(&b, " (default %s)", v.preset)
		}
		fmt.Fprintf(&b, "\n      %s\n", strings.ReplaceAll(v.doc, "**", ""))
	}
	return b.String()
}

// unknownVariable says what is wrong with the name of an environment variable,
// or returns "".
func unknownVariable(name string) string {
	short, ours := strings.CutPrefix(name, envPrefix)
	if !ours || short == "PORT" || strings.HasPrefix(short, "PORT_") || strings.HasPrefix(short, "SERVICE_") {
		return ""
	}
	best, distance := "", len(short)
	for _, v := range variables() {
		if v.name == short {
			return ""
		}
		d := spelling.Distance(short, v.name)
		if hasWords(v.name, short) {
			d = 1 // words left out: CLIENT_ID for OIDC_CLIENT_ID
		}
		if d < distance {
			best, distance = v.name, d
		}
	}
	switch {
	case strings.Contains(short, "_SERVICE_") || strings.Contains(short, "_PORT_") || strings.HasSuffix(short, "_PORT"):
		return "unknown setting. If Kubernetes injected it for a Service, set enableServiceLinks: false in the pod"
	case distance <= max(2, len(short)/3):
		return fmt.Sprintf("unknown setting: did you mean %s%s?", envPrefix, best)
	default:
		return "unknown setting: docs/settings.md lists them all"
	}
}

// hasWords reports whether all words of part stand in name, in their order.
func hasWords(name, part string) bool {
	words := strings.Split(part, "_")
	for word := range strings.SplitSeq(name, "_") {
		if len(words) > 0 && word == words[0] {
			words = words[1:]
		}
	}
	return len(words) == 0
}
