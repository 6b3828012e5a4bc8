package main

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// result is what came of all runs of a row.
type result struct {
	row      row
	runs     int
	outcomes map[string]int
	broken   []violation
	log      string // of the first broken run
}

// table is the fault table.
type table struct {
	mu      sync.Mutex
	results []*result // as in rows
}

func (tb *table) add(r *result, t *trial) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	r.runs++
	outcome := t.outcome
	if outcome == "" {
		outcome = "ended early"
	}
	r.outcomes[outcome]++
	if len(t.broken) > 0 && r.log == "" {
		r.log = t.log.String()
	}
	r.broken = append(r.broken, t.broken...)
}

// count returns how often something that must never be was.
func (tb *table) count(kind violationKind) int {
	n := 0
	for _, r := range tb.results {
		for _, v := range r.broken {
			if v.kind == kind {
				n++
			}
		}
	}
	return n
}

func (tb *table) runs() int {
	n := 0
	for _, r := range tb.results {
		n += r.runs
	}
	return n
}

// kinds are the columns of what must be 0.
func kinds() []violationKind {
	return []violationKind{falseSnapshot, unusableDir, silentFailure, otherFault}
}

// print writes the table as Markdown, and what is wrong.
func (tb *table) print(w io.Writer) {
	for _, group := range groups() {
		var lines []string
		for _, r := range tb.results {
			if r.row.group == group && r.runs > 0 {
				lines = append(lines, r.line())
			}
		}
		if len(lines) > 0 {
			fmt.Fprintf(w, "\n### %s\n\n| step | runs | what came of it | wrong |\n|---|---|---|---|\n%s", group, strings.Join(lines, ""))
		}
	}
	fmt.Fprintf(w, "\n### Totals\n\n| | |\n|---|---|\n| runs | %d |\n", tb.runs())
	for _, kind := range kinds() {
		fmt.Fprintf(w, "| %s | %d |\n", kind, tb.count(kind))
	}
	for _, r := range tb.results {
		for _, v := range r.broken {
			fmt.Fprintf(w, "\n%s: %s: %s: %s\n", r.row.group, r.row.step, v.kind, v.text)
		}
		if r.log != "" {
			fmt.Fprintf(w, "\nits log:\n%s\n", tail(r.log))
		}
	}
}

func (r *result) line() string {
	var outcomes []string
	for outcome, n := range r.outcomes {
		outcomes = append(outcomes, fmt.Sprintf("%d × %s", n, outcome))
	}
	slices.Sort(outcomes)
	wrong := ""
	if len(r.broken) > 0 {
		wrong = fmt.Sprint(len(r.broken))
	}
	return fmt.Sprintf("| %s | %d | %s | %s |\n", r.row.step, r.runs, strings.Join(outcomes, "; "), wrong)
}

// figures replaces what differs from run to run, so that equal outcomes are
// counted as such.
func figures(text string) string {
	for _, x := range []struct{ expression, with string }{
		{`\d{8}T\d{6}Z[-a-z0-9]*`, "ID"},
		{`redis-\d/\S+`, "POD"},
		{`127\.0\.0\.1:\d+`, "ADDRESS"},
		{`s3://[-a-z0-9/]+`, "STORE"},
		{`/tmp/[^ :]+`, "DIR"},
		{`\.incomplete-[A-Z0-9]+`, ".incomplete-RANDOM"},
		{`\d+(\.\d+)?`, "N"},
	} {
		text = regexp.MustCompile(x.expression).ReplaceAllString(text, x.with)
	}
	return strings.ReplaceAll(text, "|", "/")
}
