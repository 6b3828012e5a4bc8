package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// The table of docs/testing.md names every test of a trap, and no other.
func TestTrapsAreListed(t *testing.T) {
	root := testenv.Root(t)
	page, err := os.ReadFile(filepath.Join(root, "docs", "testing.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), "| trap | test |\n")
	if !found {
		t.Fatal("docs/testing.md has no table of traps")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	listed := map[string]bool{}
	for _, name := range regexp.MustCompile("`(TestTrap\\w+)`").FindAllStringSubmatch(table, -1) {
		if listed[name[1]] {
			t.Errorf("%s is listed twice", name[1])
		}
		listed[name[1]] = true
	}
	tests := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (TestTrap\w+)\(t \*testing\.T\)`)
	err = filepath.WalkDir(filepath.Join(root, "internal"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, name := range declared.FindAllStringSubmatch(string(text), -1) {
			tests[name[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range listed {
		if !tests[name] {
			t.Errorf("%s is listed, there is no such test", name)
		}
	}
	for name := range tests {
		if !listed[name] {
			t.Errorf("%s is not listed", name)
		}
	}
	if len(tests) < 40 {
		t.Errorf("only %d tests of traps were found", len(tests))
	}
}
