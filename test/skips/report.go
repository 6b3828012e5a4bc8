package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

// event is one line of go test -json, see "go doc test2json".
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// report turns events back into the output of go test without -v.
type report struct {
	w       io.Writer
	allowed map[string]string // "package test" → reason

	running        map[string]*pkg
	passed, failed int
	skipped        int
	refused        []string // skipped, but not on the list

	// The closing line of the package that ended last is held back, so that the
	// summary comes before it and the output ends as go test's does.
	held string
}

// pkg is what a package under test has printed so far.
type pkg struct {
	lines   []line
	outcome map[string]string // test → pass, fail, skip
}

type line struct{ test, text string }

func newReport(w io.Writer, allowed map[string]string) *report {
	return &report{w: w, allowed: allowed, running: map[string]*pkg{}}
}

func (r *report) add(e event) {
	if e.Action == "build-output" {
		r.print(e.Output)
		return
	}
	if e.Package == "" {
		return
	}
	p := r.running[e.Package]
	if p == nil {
		p = &pkg{outcome: map[string]string{}}
		r.running[e.Package] = p
	}
	switch e.Action {
	case "output":
		if !isProgress(e.Output) {
			p.lines = append(p.lines, line{e.Test, e.Output})
		}
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.close(e.Package, p)
			delete(r.running, e.Package)
			return
		}
		p.outcome[e.Test] = e.Action
		r.count(e)
	}
}

// count counts one test that has ended.
func (r *report) count(e event) {
	switch e.Action {
	case "pass":
		r.passed++
	case "fail":
		r.failed++
	case "skip":
		r.skipped++
		name := e.Package + " " + e.Test
		if _, ok := r.allowedReason(name); !ok {
			r.refused = append(r.refused, name)
		}
	}
}

// allowedReason returns why a test may be skipped. The list's paths begin in
// the repository, those of go test with the module's name.
func (r *report) allowedReason(name string) (string, bool) {
	for listed, reason := range r.allowed {
		if name == listed || strings.HasSuffix(name, "/"+listed) {
			return reason, true
		}
	}
	return "", false
}

// close prints what is worth reading of a package that has ended: everything
// that belongs to a test which did not pass, and its closing lines.
func (r *report) close(name string, p *pkg) {
	for _, l := range p.lines {
		if l.test == "" {
			if strings.TrimSpace(l.text) != "PASS" {
				r.print(l.text)
			}
			continue
		}
		switch p.outcome[l.test] {
		case "pass":
		case "skip":
			r.print(l.text)
			if reason, ok := r.allowedReason(name + " " + l.test); ok && strings.Contains(l.text, "--- SKIP") {
				r.print("    allowed: " + reason + "\n")
			}
		default: // failed, or the package ended before the test did
			r.print(l.text)
		}
	}
}

// print writes text after what was held back, and holds text back if it closes
// a package.
func (r *report) print(text string) {
	if r.held != "" {
		fmt.Fprint(r.w, r.held)
		r.held = ""
	}
	if strings.HasPrefix(text, "ok  \t") {
		r.held = text
		return
	}
	fmt.Fprint(r.w, text)
}

// finish prints the summary and returns the exit code.
func (r *report) finish(ok bool, took time.Duration) int {
	held := r.held
	r.held = ""
	fmt.Fprintf(r.w, "# %d tests and subtests passed, %d failed, %d skipped, in %s\n",
		r.passed, r.failed, r.skipped, took.Round(time.Second))
	fmt.Fprint(r.w, held)
	switch {
	case len(r.refused) > 0:
		fmt.Fprintf(r.w, "FAIL: skipped, and not listed among the tests that may be:\n")
		for _, name := range r.refused {
			fmt.Fprintln(r.w, "    "+name)
		}
	case ok && r.passed == 0:
		fmt.Fprintln(r.w, "FAIL: no test ran")
	case ok:
		return 0
	}
	fmt.Fprintln(r.w, "FAIL")
	return 1
}

// isProgress tells whether only -v would print this line.
func isProgress(output string) bool {
	for _, prefix := range []string{"=== RUN ", "=== PAUSE ", "=== CONT ", "=== NAME "} {
		if strings.HasPrefix(output, prefix) {
			return true
		}
	}
	return false
}

// readAllowed reads the list; a file that does not exist is an empty one.
func readAllowed(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	allowed := map[string]string{}
	scanner := bufio.NewScanner(f)
	for n := 1; scanner.Scan(); n++ {
		text := strings.TrimSpace(scanner.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		fields := strings.SplitN(text, " ", 3)
		if len(fields) < 3 {
			return nil, fmt.Errorf("%s:%d: want a package, a test and a reason, got %q", path, n, text)
		}
		allowed[fields[0]+" "+fields[1]] = fields[2]
	}
	return allowed, scanner.Err()
}
