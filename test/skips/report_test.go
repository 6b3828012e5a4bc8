package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestRun runs the real go test on a small module.
func TestRun(t *testing.T) {
	const (
		passes = "func TestPasses(t *testing.T) { t.Log(\"silent\") }\n"
		fails  = "func TestFails(t *testing.T) { t.Run(\"sub\", func(t *testing.T) { t.Error(\"boom\") }) }\n"
		skips  = "func TestSkips(t *testing.T) { t.Skip(\"no moon\") }\n"
		panics = "func TestPanics(t *testing.T) { panic(\"argh\") }\n"
		broken = "func TestBroken(t *testing.T) { undefined() }\n"
	)
	tests := map[string]struct {
		source, allowed string
		code            int
		want            []string // in the output, in this order
		not             string
	}{
		"passes": {
			source: passes, want: []string{"# 1 tests and subtests passed, 0 failed, 0 skipped, in ", "ok  \texample.test/m\t"}, not: "silent",
		},
		"fails": {
			source: passes + fails, code: 1,
			want: []string{"boom", "--- FAIL: TestFails/sub", "FAIL\texample.test/m\t", "# 1 tests and subtests passed, 2 failed", "FAIL\n"}, not: "silent",
		},
		"skips": {
			source: passes + skips, code: 1,
			want: []string{"no moon", "--- SKIP: TestSkips", "FAIL: skipped", "example.test/m TestSkips", "FAIL\n"},
		},
		"skips with leave": {
			source: passes + skips, allowed: "# comment\n\nm TestSkips the moon is down\n",
			want: []string{"--- SKIP: TestSkips", "allowed: the moon is down", "1 skipped", "ok  \texample.test/m\t"},
		},
		"panics": {
			source: panics, code: 1, want: []string{"panic: argh", "FAIL\texample.test/m\t", "FAIL\n"},
		},
		"does not build": {
			source: broken, code: 1, want: []string{"undefined: undefined", "FAIL\texample.test/m [build failed]", "FAIL\n"},
		},
		"has no test": {
			source: "", code: 1, want: []string{"FAIL: no test ran"},
		},
		"bad list": {
			source: passes, allowed: "m TestSkips\n", code: 2, want: []string{"allowed:1: want a package, a test and a reason"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "go.mod", "module example.test/m\n\ngo 1.26.0\n")
			write(t, dir, "m.go", "// Package m is tested.\npackage m\n")
			if tt.source != "" {
				write(t, dir, "m_test.go", "package m\n\nimport \"testing\"\n\n"+tt.source)
			}
			write(t, dir, "allowed", tt.allowed)
			t.Chdir(dir)

			var out, errors bytes.Buffer
			if code := run("allowed", []string{"./..."}, &out, &errors); code != tt.code {
				t.Errorf("got exit code %d, want %d", code, tt.code)
			}
			out.Write(errors.Bytes())
			rest := out.String()
			for _, want := range tt.want {
				_, after, ok := strings.Cut(rest, want)
				if !ok {
					t.Fatalf("%q is missing, or not in its place, in:\n%s", want, out.String())
				}
				rest = after
			}
			if tt.not != "" && strings.Contains(out.String(), tt.not) {
				t.Errorf("%q is in the output:\n%s", tt.not, out.String())
			}
			if last := regexp.MustCompile(`(?m)^(ok  \t.*|FAIL)\n\z`); tt.code != 2 && !last.Match(out.Bytes()) {
				t.Errorf("the last line is not one of go test's:\n%s", out.String())
			}
		})
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
