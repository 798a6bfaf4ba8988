package main

import (
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/settings.md, docs/metrics.md, deploy/rbac*.yaml and testdata")

// The reference page of the settings is the one that the struct describes.
func TestSettingsReference(t *testing.T) {
	const page = "../../docs/settings.md"
	want := settingsReference() + faultsReference()
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/settings.md is not current: run `make docs` (-want +got):\n%s", diff)
	}
}

// Each setting has a name and a meaning for that page.
func TestVariablesAreDescribed(t *testing.T) {
	seen := map[string]bool{}
	for _, v := range variables() {
		if v.name == "" || v.doc == "" || seen[v.name] {
			t.Errorf("the setting of field %s has no name, no meaning, or another's name: %+v", v.field, v)
		}
		seen[v.name] = true
	}
}
