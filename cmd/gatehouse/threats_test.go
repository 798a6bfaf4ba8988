package main

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// shortFolders are those that documents name without e2e before them.
var shortFolders = []string{"rawbytes", "oracle", "oracle/actas"}

// testsByFolder returns the tests and fuzz targets there are, by folder.
func testsByFolder(t *testing.T) map[string]map[string]bool {
	t.Helper()
	function := regexp.MustCompile(`(?m)^func (Test\w+|Fuzz\w+)\(`)
	tests := map[string]map[string]bool{}
	for _, path := range files(t, "_test.go") {
		folder, err := filepath.Rel(moduleRoot, filepath.Dir(path))
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range function.FindAllStringSubmatch(read(t, path), -1) {
			if tests[folder] == nil {
				tests[folder] = map[string]bool{}
			}
			tests[folder][match[1]] = true
		}
	}
	return tests
}

// rowFaults reads the tables of a page whose last column is "test". It returns how
// many rows they have, and what is wrong with them: a row that names no test, or
// one that its folder does not have. A cell names `folder: TestThis`, `TestThat`.
func rowFaults(page string, tests map[string]map[string]bool) (rows int, faults []string) {
	named := regexp.MustCompile("`(?:([a-z0-9/]+): )?((?:Test|Fuzz)\\w+)[^`]*`")
	inTable := false
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			inTable = false
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		last := strings.TrimSpace(cells[len(cells)-1])
		if !inTable {
			inTable = last == "test"
			continue
		}
		if strings.Trim(line, "|-") == "" {
			continue
		}
		rows++
		matches := named.FindAllStringSubmatch(last, -1)
		if len(matches) == 0 {
			faults = append(faults, "no test: "+line)
		}
		folder := ""
		for _, match := range matches {
			if match[1] != "" {
				if folder = match[1]; slices.Contains(shortFolders, folder) {
					folder = "e2e/" + folder
				}
			}
			if folder != "" && !tests[folder][match[2]] {
				faults = append(faults, folder+" has no "+match[2]+": "+line)
			}
		}
	}
	return rows, faults
}

// Promise: every threat of the threat model has a test, by name, where it is said
// to be.
func TestEveryThreatHasATest(t *testing.T) {
	t.Parallel()
	rows, faults := rowFaults(read(t, filepath.Join(moduleRoot, "docs", "threat-model.md")), testsByFolder(t))
	for _, fault := range faults {
		t.Error(fault)
	}
	if rows < 110 {
		t.Errorf("only %d rows were found", rows)
	}
}

// The reading of such a page can fail.
func TestRowFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]map[string]bool{"proxy": {"TestA": true, "TestB": true}, "e2e/rawbytes": {"FuzzC": true}}
	const head = "text\n\n| threat | defence | test |\n|---|---|---|\n"
	for row, want := range map[string]int{
		"| a | b | `proxy: TestA`, `TestB/sub`, `rawbytes: FuzzC` |": 0,
		"| a | b | all of `rawbytes`; `proxy: TestA` |":              0,
		"| a | `proxy: TestA` | none |":                              1,
		"| a | b | by construction (`proxy`) |":                      1,
		"| a | b | |":                                                1,
		"| a | b | `proxy: TestC` |":                                 1,
		"| a | b | `proxy: TestA`, `FuzzC` |":                        1,
		"| a | b | `rawbytes: TestA` |":                              1,
	} {
		rows, faults := rowFaults(head+row+"\n\n| topic | x |\n|---|---|\n| no test | here |\n", tests)
		if rows != 1 || len(faults) != want {
			t.Errorf("%s: %d rows, faults %q", row, rows, faults)
		}
	}
}
