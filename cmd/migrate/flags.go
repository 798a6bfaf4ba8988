package migrate

import (
	"encoding/csv"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"github.com/kube-gatehouse/gatehouse/cmd/spelling"
)

// kind is how the values of a flag are read.
type kind int

const (
	text    kind = iota // the last one counts
	boolean             // may stand alone
	maybe               // may stand alone too, and have any value
	list                // separated by commas, and repeated
	pairs               // key=value, repeated, and not split
)

// flag is one that a program has.
type flag struct {
	name, short string
	kind        kind
	// variable is the setting that means the same; file says that its value is a
	// path. Empty: there is code for it, or there is none.
	variable string
	file     bool
	// why says why there is no counterpart.
	why string
}

// value is what a command line says of one flag. It is a pflag.Value.
type value struct {
	flag
	given  bool
	values []string
}

func (v *value) String() string { return strings.Join(v.values, ",") }
func (v *value) Type() string   { return "string" }

func (v *value) Set(s string) error {
	v.given = true
	switch v.kind {
	case boolean:
		on, err := strconv.ParseBool(s)
		if err != nil {
			return errors.New("it is neither true nor false")
		}
		v.values = []string{strconv.FormatBool(on)}
	case list:
		if s == "" {
			return nil
		}
		fields, err := csv.NewReader(strings.NewReader(s)).Read()
		if err != nil {
			return errors.New("it is no list separated by commas")
		}
		v.values = append(v.values, fields...)
	case pairs:
		v.values = append(v.values, s)
	default:
		v.values = []string{s}
	}
	return nil
}

// flagSet are the flags of a command line.
type flagSet struct {
	known  []flag // in the order of the documents
	values map[string]*value
}

// parse reads args as the program that has these flags would. No value is in an
// error: it could be a secret.
func parse(args []string, known []flag) (*flagSet, error) {
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	set.SortFlags = false
	// Kubernetes takes --oidc_issuer_url too.
	set.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
	})
	f := &flagSet{known: known, values: map[string]*value{}}
	for _, one := range known {
		v := &value{flag: one}
		added := set.VarPF(v, one.name, one.short, "")
		if one.kind == boolean || one.kind == maybe {
			added.NoOptDefVal = "true"
		}
		f.values[one.name] = v
	}
	if err := set.Parse(args); err != nil {
		return nil, f.fault(err)
	}
	if set.NArg() > 0 {
		return nil, errors.New("there is a word among the flags that belongs to none of them")
	}
	for _, one := range known {
		for _, value := range f.values[one.name].values {
			switch {
			case strings.Contains(value, "$(") || strings.HasPrefix(value, "${"):
				return nil, fmt.Errorf("--%s: its value is that of a variable, which is not in the input", one.name)
			case strings.ContainsFunc(value, func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }):
				return nil, fmt.Errorf("--%s: its value has control characters, or is not UTF-8", one.name)
			}
		}
	}
	return f, nil
}

// fault says what pflag says, without values and with a suggestion.
func (f *flagSet) fault(err error) error {
	if missing, ok := errors.AsType[*pflag.NotExistError](err); ok {
		name := missing.GetSpecifiedName()
		best, distance := "", max(2, len(name)/4)+1
		for _, one := range f.known {
			if d := spelling.Distance(name, one.name); d < distance {
				best, distance = one.name, d
			}
		}
		switch {
		case missing.GetSpecifiedShortnames() != "":
			return fmt.Errorf("unknown flag -%s: long flags begin with two dashes", name)
		case best != "":
			return fmt.Errorf("unknown flag --%s: did you mean --%s?", name, best)
		}
		return fmt.Errorf("unknown flag --%s", name)
	}
	if missing, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return fmt.Errorf("--%s needs a value", missing.GetSpecifiedName())
	}
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return fmt.Errorf("--%s: %w", bad.GetFlag().Name, bad.Unwrap())
	}
	return errors.New("a flag is not written as --name=value")
}

// get returns the value of a flag, or "".
func (f *flagSet) get(name string) string {
	if v := f.values[name]; v != nil && len(v.values) > 0 {
		return v.values[len(v.values)-1]
	}
	return ""
}

// all returns every value of a flag.
func (f *flagSet) all(name string) []string {
	if v := f.values[name]; v != nil {
		return v.values
	}
	return nil
}

// on reports whether a flag says something: it is true, or not empty.
func (f *flagSet) on(name string) bool { value := f.get(name); return value != "" && value != "false" }

// translatePlain translates the flags that mean the same as one setting, and
// names those that mean nothing here, together if the reason is the same.
func (t *translation) translatePlain() {
	names := map[string][]string{}
	var reasons []string
	for _, one := range t.flags.known {
		switch {
		case !t.flags.on(one.name):
		case one.variable != "" && one.file:
			t.setFile(one.variable, t.flags.get(one.name))
		case one.variable != "":
			t.set(one.variable, strings.Join(t.flags.all(one.name), ","))
		case one.why != "":
			if names[one.why] == nil {
				reasons = append(reasons, one.why)
			}
			names[one.why] = append(names[one.why], "--"+one.name)
		}
	}
	for _, why := range reasons {
		t.note(LeftOut, "%s: %s", strings.Join(names[why], ", "), why)
	}
}
